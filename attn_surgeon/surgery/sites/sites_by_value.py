"""Look up the sites where each value of the example run flows."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from torch import Tensor

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.functions import plain_name
from attn_surgeon.surgery.observe.observe import Call
from attn_surgeon.surgery.sites.finder import Finder
from attn_surgeon.surgery.sites.layouts import Feature
from attn_surgeon.surgery.sites.site import Site

_FEW_POSITIONS = 4


class SitesByValue:
    """The sites where each value flows, in the order of execution; values are named by their numbers in the dataflow.

    Attributes:
        after: the sites that a value flows after.
        before: the modules that a value flows into.
        join_inputs: the site of an input of a concatenation or addition, by the numbers of result and input.
    """

    def __init__(self, flow: Dataflow, finder: Finder) -> None:
        self.flow = flow
        self._second = finder.second
        self.after = self._by_number(finder.outputs)
        self.before = self._by_number(finder.module_inputs)
        self.join_inputs: dict[tuple[int, int], Site] = {}
        for output, value, site in finder.function_inputs:
            result = flow.number(output)
            if result is not None and site.before and site.input is not None:
                versions = flow.numbers(flow.observation.versions(value))  # it may be changed in place before the join
                for part in set(versions) & set(flow.sources[result]):
                    self.join_inputs.setdefault((result, part), site)

    def _by_number(self, pairs: Iterable[tuple[Tensor, Site]]) -> dict[int, list[Site]]:
        sites: dict[int, list[Site]] = {}
        for value, site in pairs:
            number = self.flow.number(value)
            if number is not None:
                sites.setdefault(number, []).append(site)
        return sites

    @cached_property
    def maps(self) -> dict[int, Feature]:
        """The feature of every value that flows after a site; volumes only if the network's input is one.

        Attention stacks queries, keys and values along an axis of their own, which does not make an image a volume.
        """
        rank = max([4, *(value.ndim for value in self.flow.observation.inputs)])
        features = {number: [site.output for site in sites] for number, sites in self.after.items()}
        known = {number: [feature for feature in found if feature is not None] for number, found in features.items()}
        return {number: found[-1] for number, found in known.items() if found and len(found[-1].shape) <= rank}

    @cached_property
    def scaling(self) -> dict[int, Feature]:
        """The maps whose size depends on that of the image; a pooled grid's or learned states' does not.

        All maps are returned if the runs at the two sizes have different operations, or if no map depends on the
        image's size, as in detectors, which resize images. Maps of few positions are kept, since two small sizes may be
        rounded to the same.
        """
        first, second = self.flow.observation.events, self._second.events if self._second else ()
        if [event.function for event in first] != [event.function for event in second]:
            return self.maps
        resized = {
            id(value): other
            for event, at_second_size in zip(first, second, strict=True)
            for value, other in zip(event.outputs, at_second_size.outputs, strict=False)
        }
        fixed = {number for number, value in enumerate(self.flow.values) if _same_shape(value, resized.get(id(value)))}
        few = {n for n, feature in self.maps.items() if feature.positions + feature.prefix <= _FEW_POSITIONS}
        if fixed.issuperset(n for n in self.maps.keys() - few if self.flow.layered[n]):
            return self.maps
        return {number: feature for number, feature in self.maps.items() if number not in fixed - few}

    @property
    def layers(self) -> list[int]:
        """The numbers of the values that modules return."""
        return [number for number, sites in self.after.items() if any(site.kind == "module" for site in sites)]

    def producer_site(self, number: int, *, inner: bool = False) -> Site | None:
        """Return the site of what computed a value: the outermost module that returns it, or the innermost."""
        sites = self.insertable(number)
        computed = [site for site in sites if self.is_computed_at(number, site)] or sites
        plain = [site for site in computed if not site.is_item] or computed
        return plain[0 if inner else -1] if plain else None

    def last_site(self, number: int) -> Site | None:
        """Return the last site that a value passes, such as the drop path after a branch's last layer."""
        sites = self.insertable(number)
        plain = [site for site in sites if not site.is_item] or sites
        return plain[-1] if plain else None

    def user_site(self, number: int) -> Site | None:
        """Return the first module that a value flows into, the outermost."""
        sites = [site for site in self.before.get(number, ()) if site.before and site.input is not None]
        return min(sites, key=lambda site: self.flow.observation.calls[site.name][0].index, default=None)

    def insertable(self, number: int) -> list[Site]:
        """Return the sites after which a graft can take a value."""
        return [site for site in self.after.get(number, ()) if site.after and site.output is not None]

    def call(self, site: Site) -> Call | None:
        """Return the first call of a site's module; None for a function."""
        calls = self.flow.observation.calls.get(site.name.partition(":")[0])
        return calls[0] if calls else None

    def is_computed_at(self, number: int, site: Site) -> bool:
        """Return whether a site's module or function computed the value, rather than returned its input."""
        calls = self.flow.observation.calls.get(site.name.partition(":")[0], ())
        if site.kind == "function":
            maker = self.flow.producers[number]
            return maker is not None and plain_name(maker.function) == plain_name(site.type)
        return not calls or any(self.flow.computed_in(number, call) for call in calls)


def _same_shape(value: Tensor, other: Tensor | None) -> bool:
    return other is not None and value.shape == other.shape
