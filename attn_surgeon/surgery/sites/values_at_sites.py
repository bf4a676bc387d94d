"""Find the sites that carry each value of the example run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cached_property

from torch import Tensor

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.functions import plain_name
from attn_surgeon.surgery.observe.observe import Call
from attn_surgeon.surgery.observe.recorder import Event
from attn_surgeon.surgery.sites.finder import Finder
from attn_surgeon.surgery.sites.layouts import Feature
from attn_surgeon.surgery.sites.site import Site

_FEW = 4


class Carriers:
    """The sites that carry each value, in the order of execution.

    `after` them or `before` them it flows; `entries` are the inputs of joins, by the numbers of total and part.
    """

    def __init__(self, flow: Dataflow, finder: Finder) -> None:
        self.flow = flow
        self._second = finder.second
        self.after = self._by_number(finder.carried)
        self.before = self._by_number(finder.entered)
        self.entries: dict[tuple[int, int], Site] = {}
        for total, value, site in finder.entering:
            join = flow.number(total)
            if join is not None and site.before and site.input is not None:
                parts = flow.numbers(
                    flow.observation.versions(value)
                )  # it may have been changed in place before the join
                for part in set(parts) & set(flow.sources[join]):
                    self.entries.setdefault((join, part), site)

    def _by_number(self, pairs: Iterable[tuple[Tensor, Site]]) -> dict[int, list[Site]]:
        sites: dict[int, list[Site]] = {}
        for value, site in pairs:
            number = self.flow.number(value)
            if number is not None:
                sites.setdefault(number, []).append(site)
        return sites

    @cached_property
    def maps(self) -> dict[int, Feature]:
        """The feature of every value that a site carries; volumes only where the network's input is one.

        Attention stacks queries, keys and values along an axis of their own, which makes no volume of an image.
        """
        rank = max([4, *(value.ndim for value in self.flow.observation.inputs)])
        features = {number: [site.output for site in sites] for number, sites in self.after.items()}
        known = {number: [feature for feature in found if feature is not None] for number, found in features.items()}
        return {number: found[-1] for number, found in known.items() if found and len(found[-1].shape) <= rank}

    @cached_property
    def scaling(self) -> dict[int, Feature]:
        """The maps without those whose size does not depend on the image's: a pooled grid, a set of states.

        The runs at the two sizes must have been made of the same operations. A few places are no evidence, for two
        small sizes may be rounded to one.
        """
        first, second = self.flow.observation.events, self._second.events if self._second else ()
        if [event.function for event in first] != [event.function for event in second]:
            return self.maps
        twins = {
            id(one): other for event, twin in zip(first, second, strict=True) for one, other in _pairs(event, twin)
        }
        fixed = {number for number, value in enumerate(self.flow.values) if _same_shape(value, twins.get(id(value)))}
        fixed -= {n for n, feature in self.maps.items() if feature.positions + feature.prefix <= _FEW}
        return {number: feature for number, feature in self.maps.items() if number not in fixed}

    @property
    def layers(self) -> list[int]:
        """The numbers of the values that modules return."""
        return [number for number, sites in self.after.items() if any(site.kind == "module" for site in sites)]

    def maker(self, number: int, *, inner: bool = False) -> Site | None:
        """Return the site of what computed a value: the outermost module that returns it, or the innermost."""
        sites = self.usable(number)
        made = [site for site in sites if self.made(number, site)] or sites
        plain = [site for site in made if not site.is_item] or made
        return plain[0 if inner else -1] if plain else None

    def last(self, number: int) -> Site | None:
        """Return the last site that a value passes, such as the drop path after a branch's last layer."""
        sites = self.usable(number)
        plain = [site for site in sites if not site.is_item] or sites
        return plain[-1] if plain else None

    def user(self, number: int) -> Site | None:
        """Return the first module that a value flows into, the outermost."""
        sites = [site for site in self.before.get(number, ()) if site.before and site.input is not None]
        return min(sites, key=lambda site: self.flow.observation.calls[site.name][0].index, default=None)

    def usable(self, number: int) -> list[Site]:
        """List the sites where a value can be operated on."""
        return [site for site in self.after.get(number, ()) if site.after and site.output is not None]

    def call(self, site: Site) -> Call | None:
        """Return the first call of a site's module; None for a function."""
        calls = self.flow.observation.calls.get(site.name.partition(":")[0])
        return calls[0] if calls else None

    def made(self, number: int, site: Site) -> bool:
        """Return whether a site's module or function computed the value, rather than passed it on."""
        calls = self.flow.observation.calls.get(site.name.partition(":")[0], ())
        if site.kind == "function":
            maker = self.flow.producers[number]
            return maker is not None and plain_name(maker.function) == plain_name(site.type)
        return not calls or any(self.flow.computed_in(number, call) for call in calls)


def _pairs(event: Event, twin: Event) -> Iterator[tuple[Tensor, Tensor]]:
    """Pair an operation's outputs with those at the second size."""
    return zip(event.outputs, twin.outputs, strict=False)


def _same_shape(value: Tensor, twin: Tensor | None) -> bool:
    return twin is not None and value.shape == twin.shape
