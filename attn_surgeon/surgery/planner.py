"""Plan an insertion: a graft for every chosen site that can take the block, and a refusal for every other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from attn_surgeon.errors import SelectorError, first_few, nearest, option
from attn_surgeon.surgery.plan import Graft, Plan, Refusal, UnfitError
from attn_surgeon.surgery.rewrite.placement import Placement, Side
from attn_surgeon.surgery.sites.inputs import describe_inputs
from attn_surgeon.surgery.sites.layouts import Feature
from attn_surgeon.surgery.sites.selection import ChosenSite, Selection, choose
from attn_surgeon.surgery.sites.selectors import LIST_SITES
from attn_surgeon.surgery.sites.site import Site
from attn_surgeon.surgery.sites.survey import Survey


@dataclass(frozen=True)
class BlockRequest:
    """The block to insert.

    Args:
        build: a function that builds the block for a feature, and a second one for a block of two inputs; it raises
            UnfitError where the block cannot run on them.
        block: its specification as plain data, which grafts store.
        inputs: the number of tensors that it takes.
    """

    build: Callable[[Feature, Feature | None], nn.Module]
    block: Mapping[str, Any]
    inputs: int = 1


def make_plan(survey: Survey, selection: Selection, request: BlockRequest) -> Plan:
    """Plan one graft for every chosen site; each block is built on the meta device, to know that it fits.

    Raises:
        SelectorError: a selector chooses nothing; one error for all such selectors.
    """
    grafts: list[Graft] = []
    refusals: list[Refusal] = []
    partner = _partner(survey, selection.with_) if selection.with_ else None
    for site, side in _before_joins(survey, choose(survey, selection), request, partner):
        try:
            grafts.append(_plan_graft(survey, (site, side), selection, request, partner))
        except UnfitError as reason:
            refusals.append(Refusal(site.name, side, str(reason)))
    kept, duplicates = _without_duplicates(grafts)
    notes = (*_notes(kept, request), *_input_notes(survey, kept))
    return Plan(tuple(kept), (*refusals, *duplicates), notes)


def _partner(survey: Survey, name: str) -> Site:
    """Return the site whose output is the second input."""
    if name not in survey.by_name:
        hint = nearest(name, survey.by_name) or f"list them with {LIST_SITES}"
        raise SelectorError(f"no site is called '{name}'", option("with_"), hint)
    return survey.by_name[name]


def _before_joins(
    survey: Survey, chosen: Sequence[ChosenSite], request: BlockRequest, partner: Site | None
) -> list[ChosenSite]:
    """Move a block of two inputs from after a join to before it, where both tensors are still separate."""
    moved: list[ChosenSite] = []
    for site, side in chosen:
        first = survey.by_name.get(f"{site.name}:0")
        joins = request.inputs > 1 and partner is None and side == "after" and "fusions" in site.groups
        moved.append((first, "before") if joins and first is not None and first.before else (site, side))
    return list(dict.fromkeys(moved))


def _plan_graft(
    survey: Survey, chosen: ChosenSite, selection: Selection, request: BlockRequest, partner: Site | None
) -> Graft:
    site, side = chosen
    feature = site.feature(side)
    if feature is None:
        raise UnfitError(_why_no_feature(survey, site, side))
    feature = _with_layout(feature, selection.layout)
    placements, second = site.placements(side), None
    if request.inputs > 1 or partner is not None:
        placements, second = _with_second(survey, chosen, partner)
    if request.inputs > 1 and second is None and {"skips", "fusions"} & set(site.groups):
        raise UnfitError("only one of the two tensors is available there: the forward that joins them cannot be traced")
    if not placements:
        raise UnfitError(site.obstacle or f"nothing can be inserted {side} it")
    with torch.device("meta"), torch.random.fork_rng(devices=[]):
        parameters = sum(p.numel() for p in request.build(feature, second).parameters())
    return Graft(
        site=site.name,
        side=side,
        calls=site.calls,
        feature=feature,
        placement=placements[0],
        block=request.block,
        parameters=parameters,
        second=second,
        other=selection.with_,
        layout=selection.layout,
        followers=site.followers(side),
        alternatives=placements[1:],
    )


def _why_no_feature(survey: Survey, site: Site, side: Side) -> str:
    items = [item.name for item in survey.items(site.name) if item.feature(side)]
    if items:
        return f"several tensors are there: {', '.join(items[:4])}"
    other: Side = "before" if side == "after" else "after"
    return f"there is no feature map {side} it" + (f", but one {other} it" if site.feature(other) else "")


def _with_layout(feature: Feature, layout: str) -> Feature:
    """Return a feature with its axes read in another layout; raise UnfitError where the number of axes differs."""
    if not layout or layout == feature.layout:
        return feature
    if len(layout) != len(feature.shape):
        raise UnfitError(f"{layout} has {len(layout)} axes, and the tensor there has {len(feature.shape)}")
    return replace(feature, layout=layout, channels=feature.shape[layout.index("C")], prefix=0, grid=None)


def _with_second(
    survey: Survey, chosen: ChosenSite, partner: Site | None
) -> tuple[tuple[Placement, ...], Feature | None]:
    """Return the placements where a second tensor is available, and that tensor: the partner's, or the join's other."""
    site, side = chosen
    if partner is not None:
        return _with_partner(survey, chosen, partner), partner.output
    items = survey.items(site.name.partition(":")[0]) if site.is_item else []
    sibling = next((item for item in items if item.name != site.name and item.before and item.input is not None), None)
    if side == "after" or sibling is None:
        return site.placements(side), None
    arguments = {(place.owner, place.method): place.argument for place in sibling.before}
    return tuple(
        replace(place, other=f"{place.node}:{arguments[place.owner, place.method]}")
        for place in site.before
        if (place.owner, place.method) in arguments
    ), sibling.input


def _with_partner(survey: Survey, chosen: ChosenSite, partner: Site) -> tuple[Placement, ...]:
    """Return the placements in forwards that compute the partner's tensor too, and do so earlier."""
    site, side = chosen
    order = {other.name: index for index, other in enumerate(survey.sites)}
    if partner.output is None or partner.is_item:
        raise UnfitError(f"there is no single feature map after {partner.name}")
    if order[partner.name] >= order[site.name]:
        raise UnfitError(f"{partner.name} is computed only after it")
    nodes = {(place.owner, place.method): place.node for place in partner.after if place.kind == "edge"}
    placements = tuple(
        replace(place, other=nodes[place.owner, place.method])
        for place in site.placements(side)
        if place.kind == "edge" and (place.owner, place.method) in nodes
    )
    if not placements:
        raise UnfitError(f"no forward has both it and {partner.name}")
    return placements


def _without_duplicates(grafts: Sequence[Graft]) -> tuple[list[Graft], list[Refusal]]:
    """Refuse a second graft at the same placement, which two sites can share: a stage and its last block."""
    site_at: dict[Placement, str] = {}
    kept: list[Graft] = []
    duplicates: list[Refusal] = []
    for graft in grafts:
        if graft.placement in site_at:
            reason = f"it is the same place as {site_at[graft.placement]}, which is chosen already"
            duplicates.append(Refusal(graft.site, graft.side, reason))
        else:
            site_at[graft.placement] = graft.site
            kept.append(graft)
    return kept, duplicates


def _input_notes(survey: Survey, grafts: Sequence[Graft]) -> list[str]:
    """Return notes that name the other inputs of modules before which a block is inserted."""
    notes = [describe_inputs(survey.observation, graft.site) for graft in grafts if graft.side == "before"]
    return [note for note in dict.fromkeys(notes) if note]


def _notes(grafts: Sequence[Graft], request: BlockRequest) -> tuple[str, ...]:
    """Return a note that lists the grafts at which a block of two inputs gets the same tensor twice."""
    same = [graft.place for graft in grafts if graft.second is None]
    if request.inputs == 1 or not same:
        return ()
    name = request.block["name"]
    hint = f"name the other one with {option('with_', 'SITE')}, or choose {option('at', 'fusions')}"
    return (f"{name} takes two tensors, and gets the same one twice {first_few(same)}; {hint}",)
