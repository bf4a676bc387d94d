"""Find the groups of sites, such as `residual` and `stages`, in the dataflow of the example run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.functions import ACTIVATIONS, NORMS, RESHAPES, plain_name
from attn_surgeon.surgery.rewrite.placement import Side
from attn_surgeon.surgery.sites.heads import find_heads
from attn_surgeon.surgery.sites.residuals_and_fusions import Fusion, Residual, find_joins
from attn_surgeon.surgery.sites.site import Site
from attn_surgeon.surgery.sites.sites_by_value import SitesByValue
from attn_surgeon.surgery.sites.stages import find_stage_ends

GROUPS: Mapping[str, str] = {
    "stages": "the last feature map before each downsampling, and the last of all",
    "blocks": "the outputs of residual blocks",
    "residual": "the end of each residual branch, before the addition",
    "head": "the last feature map before global pooling or the classifier",
    "convs": "after each convolution with its norm and activation",
    "upsamples": "after each upsampling",
    "skips": "an encoder's feature where it joins the decoder",
    "fusions": "after concatenations and additions of different paths",
}
SINGULARS: Mapping[str, str] = {
    "stage": "stages",
    "block": "blocks",
    "conv": "convs",
    "up": "upsamples",
    "upsample": "upsamples",
    "skip": "skips",
    "fusion": "fusions",
}
Member = tuple[str, Side]
Groups = Mapping[str, tuple[Member, ...]]


def find_groups(flow: Dataflow, by_value: SitesByValue, reaches_output: Callable[[int], bool]) -> Groups:
    """Return the members of every group, each a site's name and side, in the order of execution.

    `reaches_output` returns whether the network's output depends on the positions of a value.
    """
    maps = by_value.maps
    spatial = {number for number, feature in maps.items() if feature.positions > 1}
    heads = find_heads(flow, maps, reaches_output)
    residuals, fusions = find_joins(flow)
    ends = find_stage_ends(flow, by_value.scaling, heads, _stage_layers(by_value, residuals))
    groups: dict[str, tuple[Member, ...]] = {
        "stages": _after(map(by_value.producer_site, ends)),
        "blocks": _after(_blocks(flow, by_value, residuals)),
        "residual": _residual(by_value, residuals),
        "head": _after(map(by_value.producer_site, heads)),
        "convs": _after(_convs(flow, by_value, spatial)),
        "upsamples": _after(
            by_value.producer_site(number, inner=True) for number in sorted(spatial) if flow.upsampled(number)
        ),
        "skips": _skips(by_value, fusions),
        "fusions": _fusions(by_value, fusions, spatial),
    }
    late = _after_head(by_value, min(heads, default=len(flow.values)))
    return {
        group: tuple(member for member in members if member not in late or reaches_output(late[member]))
        for group, members in groups.items()
    }


def _after_head(by_value: SitesByValue, head: int) -> dict[Member, int]:
    """Return the members after the head with their values, whose positions may no longer affect the output."""
    late = {number: by_value.insertable(number) for number in by_value.after if number > head}
    return {(site.name, "after"): number for number, sites in late.items() for site in sites}


def _after(sites: Iterable[Site | None]) -> tuple[Member, ...]:
    return tuple(dict.fromkeys((site.name, "after") for site in sites if site is not None))


def _blocks(flow: Dataflow, by_value: SitesByValue, residuals: Sequence[Residual]) -> list[Site | None]:
    """Return the modules whose own forward adds a residual branch; if that is the network itself, the additions."""
    by_path = {site.name: site for sites in by_value.after.values() for site in sites}
    found: list[Site | None] = []
    for residual in residuals:
        call = next(flow.callers(residual.event), None)
        inside = call is not None and call.caller is not None
        site = by_path.get(call.path) if inside and call is not None else None
        found.append(site or by_value.producer_site(residual.result, inner=True))
    return found


def _stage_layers(by_value: SitesByValue, residuals: Sequence[Residual]) -> list[int]:
    """Return the values that modules return, without those inside residual branches of one resolution."""
    maps, inside = by_value.maps, set[int]()
    for residual in residuals:
        branch = by_value.flow.between(residual.fork, residual.branch) or []
        if len({maps[number].positions for number in branch if number in maps} - {1}) == 1:
            inside.update(branch)
    return [number for number in by_value.layers if number not in inside]


def _residual(by_value: SitesByValue, residuals: Sequence[Residual]) -> tuple[Member, ...]:
    members: dict[Member, None] = {}
    for residual in residuals:
        entry = by_value.join_inputs.get((residual.result, residual.branch))
        branch = residual.branch if entry is not None else _before_reshaping(by_value, residual.branch)
        site, used_once = by_value.last_site(branch), len(by_value.flow.users[branch]) == 1
        if site is not None and (used_once or entry is None):
            members[site.name, "after"] = None
        elif entry is not None:
            members[entry.name, "before"] = None
    return tuple(members)


def _before_reshaping(by_value: SitesByValue, number: int) -> int:
    """Return the value before reshapes and rescalings, if no graft can be inserted after the value itself."""
    flow = by_value.flow
    while not by_value.insertable(number):
        producer = flow.producers[number]
        if producer is None or plain_name(producer.function) not in RESHAPES or len(flow.sources[number]) > 1:
            break
        (number,) = flow.sources[number]
    return number


def _fusions(by_value: SitesByValue, fusions: Sequence[Fusion], spatial: Collection[int]) -> tuple[Member, ...]:
    """Return the sites of fusions; if the forward cannot be traced, the module that takes the result."""
    members: dict[Member, None] = {}
    for fusion in fusions:
        site, user = by_value.producer_site(fusion.result, inner=True), by_value.user_site(fusion.result)
        if site is not None and fusion.result in spatial:
            members[site.name, "after"] = None
        elif site is None and user is not None:
            members[user.name, "before"] = None
    return tuple(members)


def _skips(by_value: SitesByValue, fusions: Sequence[Fusion]) -> tuple[Member, ...]:
    """Return the inputs of fusions; if the forward cannot be traced, the site of a skip that is used there only."""
    members: dict[Member, None] = {}
    for fusion in fusions:
        for skip in fusion.skips:
            entry, site = by_value.join_inputs.get((fusion.result, skip)), by_value.last_site(skip)
            if entry is not None and entry.input is not None and entry.input.positions > 1:
                members[entry.name, "before"] = None
            elif entry is None and site is not None and len(by_value.flow.users[skip]) == 1:
                members[site.name, "after"] = None
    return tuple(members)


def _convs(flow: Dataflow, by_value: SitesByValue, spatial: Collection[int]) -> list[Site | None]:
    """Return the sites of the activation after each convolution, with or without a norm between."""
    sites: list[Site | None] = []
    for number, producer in enumerate(flow.producers):
        if producer is None or not plain_name(producer.function).startswith("conv"):
            continue
        following = _only_user(flow, number, NORMS)
        activated = _only_user(flow, number if following is None else following, ACTIVATIONS)
        if activated in spatial and activated is not None:
            sites.append(_conv_site(flow, by_value, number, activated))
    return sites


def _only_user(flow: Dataflow, number: int, functions: Sequence[str]) -> int | None:
    users = flow.users[number]
    if len(users) != 1 or plain_name(users[0].function) not in functions:
        return None
    return flow.number(users[0].outputs[0])


def _conv_site(flow: Dataflow, by_value: SitesByValue, conv: int, activated: int) -> Site | None:
    """Return the module of just the convolution and its activation if there is one, else the activation."""
    inner = by_value.producer_site(activated, inner=True)
    for site in reversed(by_value.after.get(activated, ())):
        call = by_value.call(site)
        if (
            call is not None
            and site.after
            and flow.computed_in(conv, call)
            and flow.first_input(call) in flow.sources[conv]
        ):
            return site
    return inner
