"""Find the groups of sites, such as `residual` and `stages`, in the dataflow of the example run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.functions import ACTIVATIONS, NORMS, RESHAPES, plain_name
from attn_surgeon.surgery.rewrite.placement import Side
from attn_surgeon.surgery.sites.heads import find_heads
from attn_surgeon.surgery.sites.residuals_and_fusions import Fusion, Residual, find_joins
from attn_surgeon.surgery.sites.site import Site
from attn_surgeon.surgery.sites.stages import find_stage_ends
from attn_surgeon.surgery.sites.values_at_sites import Carriers

GROUPS: Mapping[str, str] = {
    "stages": "the last feature map before each downsampling, and the last of all",
    "blocks": "the outputs of residual blocks",
    "residual": "the end of each residual branch, before the add",
    "head": "the last feature map before global pooling or the classifier",
    "convs": "after every convolution with its norm and activation",
    "upsamples": "after everything that makes maps larger",
    "skips": "an encoder's feature, where it joins a decoder",
    "fusions": "where a cat or an add joins different paths",
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


def find_groups(flow: Dataflow, carriers: Carriers, reaches_output: Callable[[int], bool]) -> Groups:
    """Return the members of every group, each a site's name and side, in the order of execution."""
    maps = carriers.maps
    places = {number for number, feature in maps.items() if feature.positions > 1}
    heads = find_heads(flow, maps, reaches_output)
    residuals, fusions = find_joins(flow)
    ends = find_stage_ends(flow, carriers.scaling, heads, _stage_layers(carriers, residuals))
    groups: dict[str, tuple[Member, ...]] = {
        "stages": _after(map(carriers.maker, ends)),
        "blocks": _after(_blocks(flow, carriers, residuals)),
        "residual": _residual(carriers, residuals),
        "head": _after(map(carriers.maker, heads)),
        "convs": _after(_convs(flow, carriers, places)),
        "upsamples": _after(carriers.maker(number, inner=True) for number in _enlarged(flow) if number in places),
        "skips": _skips(carriers, fusions),
        "fusions": _fusions(carriers, fusions, places),
    }
    late = _after_head(carriers, min(heads, default=len(flow.values)))
    return {
        group: tuple(member for member in members if member not in late or reaches_output(late[member]))
        for group, members in groups.items()
    }


def _after_head(carriers: Carriers, head: int) -> dict[Member, int]:
    """Return the values after sites past the head, whose positions may no longer affect the output."""
    late = {number: carriers.usable(number) for number in carriers.after if number > head}
    return {(site.name, "after"): number for number, sites in late.items() for site in sites}


def _after(sites: Iterable[Site | None]) -> tuple[Member, ...]:
    return tuple(dict.fromkeys((site.name, "after") for site in sites if site is not None))


def _blocks(flow: Dataflow, carriers: Carriers, residuals: Sequence[Residual]) -> list[Site | None]:
    """Return the modules whose own forwards add a branch; where that is the network's, the adds themselves."""
    by_path = {site.name: site for sites in carriers.after.values() for site in sites}
    found: list[Site | None] = []
    for residual in residuals:
        call = next(flow.callers(residual.event), None)
        inside = call is not None and call.caller is not None
        site = by_path.get(call.path) if inside and call is not None else None
        found.append(site or carriers.maker(residual.total, inner=True))
    return found


def _stage_layers(carriers: Carriers, residuals: Sequence[Residual]) -> list[int]:
    """Return what modules return, without what is inside the branch of a residual block of one resolution."""
    maps, inside = carriers.maps, set[int]()
    for residual in residuals:
        branch = carriers.flow.between(residual.fork, residual.branch) or []
        if len({maps[number].positions for number in branch if number in maps} - {1}) == 1:
            inside.update(branch)
    return [number for number in carriers.layers if number not in inside]


def _residual(carriers: Carriers, residuals: Sequence[Residual]) -> tuple[Member, ...]:
    members: dict[Member, None] = {}
    for residual in residuals:
        entry = carriers.entries.get((residual.total, residual.branch))
        branch = residual.branch if entry is not None else _before_reshaping(carriers, residual.branch)
        site, alone = carriers.last(branch), len(carriers.flow.users[branch]) == 1
        if site is not None and (alone or entry is None):
            members[site.name, "after"] = None
        elif entry is not None:
            members[entry.name, "before"] = None
    return tuple(members)


def _before_reshaping(carriers: Carriers, number: int) -> int:
    """Return the value before reshapes and rescalings, where the value itself cannot be operated on."""
    flow = carriers.flow
    while not carriers.usable(number):
        maker = flow.producers[number]
        if maker is None or plain_name(maker.function) not in RESHAPES or len(flow.sources[number]) > 1:
            break
        (number,) = flow.sources[number]
    return number


def _fusions(carriers: Carriers, fusions: Sequence[Fusion], places: Collection[int]) -> tuple[Member, ...]:
    """Return the sites of joins; where the forward is opaque, the module that takes the result."""
    members: dict[Member, None] = {}
    for fusion in fusions:
        site, user = carriers.maker(fusion.total, inner=True), carriers.user(fusion.total)
        if site is not None and fusion.total in places:
            members[site.name, "after"] = None
        elif site is None and user is not None:
            members[user.name, "before"] = None
    return tuple(members)


def _skips(carriers: Carriers, fusions: Sequence[Fusion]) -> tuple[Member, ...]:
    """Return the inputs of joins; where the forward is opaque, the site of a skip that is used there only."""
    members: dict[Member, None] = {}
    for fusion in fusions:
        for skip in fusion.skips:
            entry, site = carriers.entries.get((fusion.total, skip)), carriers.last(skip)
            if entry is not None and entry.input is not None and entry.input.positions > 1:
                members[entry.name, "before"] = None
            elif entry is None and site is not None and len(carriers.flow.users[skip]) == 1:
                members[site.name, "after"] = None
    return tuple(members)


def _enlarged(flow: Dataflow) -> list[int]:
    return [number for number in range(len(flow.values)) if flow.upsampled(number)]


def _convs(flow: Dataflow, carriers: Carriers, places: Collection[int]) -> list[Site | None]:
    """Return the sites of the activation after each convolution, with or without a norm between."""
    found: list[Site | None] = []
    for number, maker in enumerate(flow.producers):
        if maker is None or not plain_name(maker.function).startswith("conv"):
            continue
        following = _only_user(flow, number, NORMS)
        activated = _only_user(flow, number if following is None else following, ACTIVATIONS)
        if activated in places and activated is not None:
            found.append(_whole(flow, carriers, number, activated))
    return found


def _only_user(flow: Dataflow, number: int, functions: Sequence[str]) -> int | None:
    users = flow.users[number]
    if len(users) != 1 or plain_name(users[0].function) not in functions:
        return None
    return flow.number(users[0].outputs[0])


def _whole(flow: Dataflow, carriers: Carriers, conv: int, activated: int) -> Site | None:
    """Return the module that is the convolution with its activation and nothing else, else the activation."""
    inner = carriers.maker(activated, inner=True)
    for site in reversed(carriers.after.get(activated, ())):
        call = carriers.call(site)
        if (
            call is not None
            and site.after
            and flow.computed_in(conv, call)
            and flow.first_input(call) in flow.sources[conv]
        ):
            return site
    return inner
