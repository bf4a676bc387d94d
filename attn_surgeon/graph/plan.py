"""What an operation will do: the grafts, and the refusals with their reasons."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import torch
from torch import nn

from attn_surgeon.errors import PlanError, SelectorError
from attn_surgeon.graph.layouts import Feature
from attn_surgeon.graph.placement import Placement, Side
from attn_surgeon.graph.selectors import select
from attn_surgeon.graph.sites import Site, Survey

BlockFactory = Callable[[Feature], nn.Module]


class UnfitError(Exception):
    """Say why a block cannot run at a site."""


@dataclass(frozen=True)
class Request:
    """One selector and the side of its sites to operate on."""

    selector: str
    side: Side = "after"


@dataclass(frozen=True)
class Graft:
    """One block at one site.

    `calls` counts how often it runs in one forward pass, `block` tells what it is, in the words of whoever builds
    it. `alternatives` are the placements to try where the first does not keep the network's output.
    """

    site: str
    side: Side
    calls: int
    feature: Feature
    placement: Placement
    block: Mapping[str, Any]
    parameters: int
    alternatives: tuple[Placement, ...] = field(default=(), compare=False, repr=False)

    def moved(self, placement: Placement) -> Self:
        """Give the same graft at another placement."""
        return replace(self, placement=placement)

    def to_dict(self) -> dict[str, Any]:
        """Write the graft as plain data, with its one placement."""
        data = asdict(replace(self, alternatives=()))
        del data["alternatives"]
        return data | {"placement": self.placement.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a graft from plain data."""
        feature = Feature.from_dict(data["feature"])
        return cls(**{**data, "feature": feature, "placement": Placement.from_dict(data["placement"])})


@dataclass(frozen=True)
class Refusal:
    """A site that was chosen but cannot take the block, and why."""

    site: str
    side: Side
    reason: str


@dataclass(frozen=True)
class Plan:
    """The grafts an operation will make and what it refuses; nothing has changed yet."""

    grafts: tuple[Graft, ...]
    refusals: tuple[Refusal, ...]

    def require(self, *, strict: bool) -> None:
        """Raise PlanError where nothing can be grafted or, if strict, where anything is refused."""
        if self.refusals and (strict or not self.grafts):
            lines = [f"{item.side} {item.site}: {item.reason}" for item in self.refusals]
            shown = "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else "")
            what = "some sites cannot take the block" if self.grafts else "no chosen site can take the block"
            raise PlanError(what, shown, "choose other sites; attn-surgeon inspect NETWORK lists them")


def join_plans(plans: Iterable[Plan]) -> Plan:
    """Join the plans of operations that are made one after the other."""
    listed = list(plans)
    return Plan(
        tuple(graft for plan in listed for graft in plan.grafts),
        tuple(refusal for plan in listed for refusal in plan.refusals),
    )


def make_plan(found: Survey, requests: Sequence[Request], factory: BlockFactory, block: Mapping[str, Any]) -> Plan:
    """Plan one graft for every site the requests choose; build each block on the meta device to be sure it fits.

    Raises SelectorError for all selectors that choose nothing, together.
    """
    grafts: list[Graft] = []
    refusals: list[Refusal] = []
    seen: set[tuple[str, Side]] = set()
    for site, side in _chosen(found, requests):
        if (site.name, side) in seen:
            continue
        seen.add((site.name, side))
        try:
            grafts.append(_plan_graft(site, side, factory, block))
        except UnfitError as reason:
            refusals.append(Refusal(site.name, side, str(reason)))
    return _without_twins(grafts, refusals)


def _chosen(found: Survey, requests: Sequence[Request]) -> list[tuple[Site, Side]]:
    chosen: list[tuple[Site, Side]] = []
    errors: list[SelectorError] = []
    for request in requests:
        try:
            chosen += [(site, request.side) for site in select(found.sites, request.selector, found.unused)]
        except SelectorError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        each = "; ".join(f"{error.what} ({error.hint})" for error in errors)
        raise SelectorError(each, errors[0].where, "list them with: attn-surgeon inspect NETWORK")
    return chosen


def _plan_graft(site: Site, side: Side, factory: BlockFactory, block: Mapping[str, Any]) -> Graft:
    feature, placements = site.feature(side), site.placements(side)
    if feature is None:
        raise UnfitError(f"no feature map flows {side} it")
    if not placements:
        raise UnfitError(f"nothing can be placed {side} it")
    with torch.device("meta"):
        parameters = sum(p.numel() for p in factory(feature).parameters())
    first, *others = placements
    return Graft(site.name, side, site.calls, feature, first, block, parameters, tuple(others))


def _without_twins(grafts: Sequence[Graft], refusals: Sequence[Refusal]) -> Plan:
    """Refuse a second graft at what is the same place under another name, such as a stage and its last block."""
    first: dict[Placement, str] = {}
    kept: list[Graft] = []
    twins: list[Refusal] = []
    for graft in grafts:
        if graft.placement in first:
            reason = f"it is the same place as {first[graft.placement]}, which is chosen already"
            twins.append(Refusal(graft.site, graft.side, reason))
        else:
            first[graft.placement] = graft.site
            kept.append(graft)
    return Plan(tuple(kept), (*refusals, *twins))
