"""Where two paths of a network meet: residual adds, and the cats and adds that fuse features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.functions import plain_name
from attn_surgeon.surgery.observe.recorder import Event

_MOST_LAYERS_IN_A_SHORTCUT = 2


@dataclass(frozen=True)
class Residual:
    """An add of a branch to the stream it left at `fork`."""

    event: Event
    total: int
    branch: int
    fork: int


@dataclass(frozen=True)
class Fusion:
    """A cat or add of different paths; `skips` are those that come past a detour through lower resolutions."""

    event: Event
    total: int
    parts: tuple[int, ...]
    skips: tuple[int, ...]


def find_joins(flow: Dataflow) -> tuple[list[Residual], list[Fusion]]:
    """Return the residual adds of a run and its fusions, both in the order of execution."""
    residuals: dict[int, Residual] = {}
    fusions: list[Fusion] = []
    for event, total in _joins(flow):
        parts = flow.numbers(event.inputs)
        found = _residual(flow, event, total, parts, residuals) if plain_name(event.function) == "add" else None
        if found is not None:
            residuals[total] = found
        elif (fusion := _fusion(flow, event, total, parts)) is not None:
            fusions.append(fusion)
    return list(residuals.values()), fusions


def _joins(flow: Dataflow) -> Iterator[tuple[Event, int]]:
    for number, maker in enumerate(flow.producers):
        if maker is not None and flow.joins(number):
            yield maker, number


def _residual(
    flow: Dataflow, event: Event, total: int, parts: tuple[int, ...], known: Mapping[int, Residual]
) -> Residual | None:
    """Return an add as a residual, if one part is a branch of the other; None where they are only two paths."""
    fork = flow.common_dominator(parts)
    shapes = [flow.values[part].shape for part in parts]
    if len(parts) != 2 or fork is None or shapes[0] != shapes[1]:
        return None
    for stream, branch in (parts, parts[::-1]):
        if stream == fork or (stream in known and known[stream].fork == fork):
            lost = branch in known and known[branch].fork == fork
            return Residual(event, total, branch, fork) if not lost and _mixing(flow, fork, branch) else None
    return _with_projected_shortcut(flow, event, total, parts, fork)


def _with_projected_shortcut(
    flow: Dataflow, event: Event, total: int, parts: tuple[int, ...], fork: int
) -> Residual | None:
    paths = [flow.between(fork, part) for part in parts]
    if any(path is None or any(map(flow.upsampled, path)) for path in paths):
        return None
    weights = [sum(map(flow.parametric, path or ())) for path in paths]
    if weights[0] == weights[1] or min(weights) > _MOST_LAYERS_IN_A_SHORTCUT:
        return None
    return Residual(event, total, parts[0] if weights[0] > weights[1] else parts[1], fork)


def _mixing(flow: Dataflow, start: int, end: int) -> int:
    """Return the number of operations on a path that are not elementwise; a path too long to search has many."""
    path = flow.between(start, end)
    return 10**6 if path is None else sum(map(flow.mixes_elements, path))


def _fusion(flow: Dataflow, event: Event, total: int, parts: tuple[int, ...]) -> Fusion | None:
    """Return a join as a fusion; None where its parts are only pieces of one value."""
    fork = flow.common_dominator(parts)
    if fork is not None and not any(_mixing(flow, fork, part) for part in parts):
        return None
    detours = {part for part in parts if _detour(flow, fork, part)}
    skips = tuple(part for part in parts if not flow.decoded[part]) if detours else ()
    return Fusion(event, total, parts, skips)


def _detour(flow: Dataflow, fork: int | None, part: int) -> bool:
    """Return whether the path from the fork goes through an upsampled map."""
    for number in flow.dominators(part):
        if number == fork:
            return False
        if flow.upsampled(number):
            return any(flow.is_spatial(source) for source in flow.sources[number])
    return False
