"""Which sites carry which values of the example run."""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor

from attn_surgeon.graph.dataflow import Dataflow
from attn_surgeon.graph.layouts import Feature
from attn_surgeon.graph.observe import Call
from attn_surgeon.graph.site import Site


class Carriers:
    """The sites that carry each value, in the order of execution, and those of what enters a join."""

    def __init__(
        self, flow: Dataflow, carried: Iterable[tuple[Tensor, Site]], entering: Iterable[tuple[Tensor, Tensor, Site]]
    ) -> None:
        self.flow = flow
        self.after: dict[int, list[Site]] = {}
        self.entries: dict[tuple[int, int], Site] = {}
        for value, site in carried:
            number = flow.number(value)
            if number is not None:
                self.after.setdefault(number, []).append(site)
        for total, value, site in entering:
            join, part = flow.number(total), flow.number(value)
            if join is not None and part is not None and site.before and site.input is not None:
                self.entries.setdefault((join, part), site)

    @property
    def maps(self) -> dict[int, Feature]:
        """Give the feature of every value that a site carries."""
        features = {number: [site.output for site in sites] for number, sites in self.after.items()}
        known = {number: [feature for feature in found if feature is not None] for number, found in features.items()}
        return {number: found[-1] for number, found in known.items() if found}

    @property
    def layers(self) -> list[int]:
        """Number the values that modules give back."""
        return [number for number, sites in self.after.items() if any(site.kind == "module" for site in sites)]

    def maker(self, number: int, *, inner: bool = False) -> Site | None:
        """Find the site of what made a value: the outermost module that gives it back, or the innermost."""
        sites = self.usable(number)
        made = [site for site in sites if self.made(number, site)] or sites
        return made[0 if inner else -1] if made else None

    def last(self, number: int) -> Site | None:
        """Find the last site a value passes, such as the drop path after a branch's last layer."""
        sites = self.usable(number)
        return sites[-1] if sites else None

    def usable(self, number: int) -> list[Site]:
        """List the sites where a value can be operated on; one of several tensors only where it has no name alone."""
        sites = [site for site in self.after.get(number, ()) if site.after and site.output is not None]
        return [site for site in sites if not site.is_item] or sites

    def call(self, site: Site) -> Call | None:
        """Give the first call of a site's module; None for a function's."""
        calls = self.flow.seen.calls.get(site.name.partition(":")[0])
        return calls[0] if calls else None

    def made(self, number: int, site: Site) -> bool:
        """Say whether a site's module or function made the value, rather than passed it on."""
        calls = self.flow.seen.calls.get(site.name.partition(":")[0], ())
        return not calls or any(self.flow.made_in(number, call) for call in calls)
