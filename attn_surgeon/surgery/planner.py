"""Make a plan: one graft for every chosen site that can take the block, and a reason for every other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from attn_surgeon.errors import SelectorError, nearest
from attn_surgeon.surgery.plan import Graft, Plan, Refusal, UnfitError
from attn_surgeon.surgery.rewrite.placement import Placement, Side
from attn_surgeon.surgery.sites.choice import Choice, Chosen, choose
from attn_surgeon.surgery.sites.layouts import Feature
from attn_surgeon.surgery.sites.site import Site
from attn_surgeon.surgery.sites.survey import Survey

BlockFactory = Callable[[Feature, Feature | None], nn.Module]


@dataclass(frozen=True)
class Wanted:
    """The block to insert: how it is built, what it is in its builder's words, and how many tensors it takes."""

    factory: BlockFactory
    block: Mapping[str, Any]
    inputs: int = 1


def make_plan(found: Survey, choice: Choice, wanted: Wanted) -> Plan:
    """Plan one graft for every site chosen; build each block on the meta device to be sure it fits.

    Raises SelectorError for all selectors that choose nothing, together.
    """
    grafts: list[Graft] = []
    refusals: list[Refusal] = []
    partner = _named(found, choice.with_) if choice.with_ else None
    for site, side in _joined_sites(found, choose(found, choice), wanted, partner):
        try:
            grafts.append(_plan_graft(found, (site, side), choice, wanted, partner))
        except UnfitError as reason:
            refusals.append(Refusal(site.name, side, str(reason)))
    return _without_twins(grafts, refusals)


def _named(found: Survey, name: str) -> Site:
    if name not in found.by_name:
        hint = nearest(name, found.by_name) or "list them with: attn-surgeon inspect NETWORK"
        raise SelectorError(f"no site is called '{name}'", "--with", hint)
    return found.by_name[name]


def _joined_sites(
    found: Survey, chosen: Sequence[Chosen], wanted: Wanted, partner: Site | None
) -> list[tuple[Site, Side]]:
    """Let a block of two inputs chosen after a join run before it, where both tensors are still apart."""
    moved: list[tuple[Site, Side]] = []
    for site, side in chosen:
        first = found.by_name.get(f"{site.name}:0")
        joins = wanted.inputs > 1 and partner is None and side == "after" and "fusions" in site.groups
        moved.append((first, "before") if joins and first is not None and first.before else (site, side))
    return list(dict.fromkeys(moved))


def _plan_graft(found: Survey, chosen: Chosen, choice: Choice, wanted: Wanted, partner: Site | None) -> Graft:
    site, side = chosen
    feature = site.feature(side)
    if feature is None:
        raise UnfitError(_why_no_map(found, site, side))
    feature = _read_as(feature, choice.layout)
    placements, second = site.placements(side), None
    if wanted.inputs > 1 or partner is not None:
        placements, second = _with_second(found, chosen, partner)
    if wanted.inputs > 1 and second is None and {"skips", "fusions"} & set(site.groups):
        raise UnfitError("only one tensor is at hand there, for the forward that joins it is opaque")
    if not placements:
        raise UnfitError(site.obstacle or f"nothing can be placed {side} it")
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        parameters = sum(p.numel() for p in wanted.factory(feature, second).parameters())
    return Graft(
        site.name,
        side,
        site.calls,
        feature,
        placements[0],
        wanted.block,
        parameters,
        second,
        choice.with_,
        choice.layout,
        site.followers(side),
        placements[1:],
    )


def _why_no_map(found: Survey, site: Site, side: Side) -> str:
    items = [item.name for item in found.items(site.name) if item.feature(side)]
    if items:
        return f"several tensors are there: {', '.join(items[:4])}"
    other: Side = "before" if side == "after" else "after"
    return f"no feature map flows {side} it" + (f", but one {other} it" if site.feature(other) else "")


def _read_as(feature: Feature, layout: str) -> Feature:
    """Read a tensor in another layout, where it has as many axes."""
    if not layout or layout == feature.layout:
        return feature
    if len(layout) != len(feature.shape):
        raise UnfitError(f"{layout} has {len(layout)} axes, and what flows there has {len(feature.shape)}")
    return replace(feature, layout=layout, channels=feature.shape[layout.index("C")], prefix=0, grid=None)


def _with_second(found: Survey, chosen: Chosen, partner: Site | None) -> tuple[tuple[Placement, ...], Feature | None]:
    """Find the placements where a second tensor is at hand: the named site's, or the other one that enters a join."""
    site, side = chosen
    if partner is not None:
        return _with_partner(found, chosen, partner), partner.output
    items = found.items(site.name.partition(":")[0]) if site.is_item else []
    sibling = next((item for item in items if item.name != site.name and item.before and item.input is not None), None)
    if side == "after" or sibling is None:
        return site.placements(side), None
    argument = {(place.owner, place.method): place.argument for place in sibling.before}
    return tuple(
        replace(place, other=f"{place.node}:{argument[place.owner, place.method]}")
        for place in site.before
        if (place.owner, place.method) in argument
    ), sibling.input


def _with_partner(found: Survey, chosen: Chosen, partner: Site) -> tuple[Placement, ...]:
    """Keep the placements in a forward in which the named tensor is there too, and made before."""
    site, side = chosen
    order = {other.name: index for index, other in enumerate(found.sites)}
    if partner.output is None or partner.is_item:
        raise UnfitError(f"no single feature map flows after {partner.name}")
    if order[partner.name] >= order[site.name]:
        raise UnfitError(f"{partner.name} is made only after it")
    nodes = {(place.owner, place.method): place.node for place in partner.after if place.kind == "edge"}
    placements = tuple(
        replace(place, other=nodes[place.owner, place.method])
        for place in site.placements(side)
        if place.kind == "edge" and (place.owner, place.method) in nodes
    )
    if not placements:
        raise UnfitError(f"no forward holds both it and {partner.name}")
    return placements


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
