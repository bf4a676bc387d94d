"""Find where paths of a network meet: residual additions, and concatenations and additions that fuse features."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.functions import plain_name
from attn_surgeon.surgery.observe.recorder import Event

_MOST_LAYERS_IN_A_SHORTCUT = 2


@dataclass(frozen=True)
class Residual:
    """The addition of a residual branch to the path that it left at `fork`."""

    event: Event
    result: int
    branch: int
    fork: int


@dataclass(frozen=True)
class Fusion:
    """A concatenation or addition of different paths; `skips` bypass those that went through lower resolutions."""

    event: Event
    result: int
    parts: tuple[int, ...]
    skips: tuple[int, ...]


def find_joins(flow: Dataflow) -> tuple[list[Residual], list[Fusion]]:
    """Return the residual additions of a run and its fusions, both in the order of execution."""
    residuals: dict[int, Residual] = {}
    fusions: list[Fusion] = []
    for event, result in _joins(flow):
        parts = flow.numbers(event.inputs)
        found = _residual(flow, event, result, parts, residuals) if plain_name(event.function) == "add" else None
        if found is not None:
            residuals[result] = found
        elif (fusion := _fusion(flow, event, result, parts)) is not None:
            fusions.append(fusion)
    return list(residuals.values()), fusions


def _joins(flow: Dataflow) -> Iterator[tuple[Event, int]]:
    for number, producer in enumerate(flow.producers):
        if producer is not None and flow.joins(number):
            yield producer, number


def _residual(
    flow: Dataflow, event: Event, result: int, parts: tuple[int, ...], known: Mapping[int, Residual]
) -> Residual | None:
    """Return an addition as residual if one part is a branch from the other; None if they are two different paths."""
    fork = flow.common_dominator(parts)
    shapes = [flow.values[part].shape for part in parts]
    if len(parts) != 2 or fork is None or shapes[0] != shapes[1]:
        return None
    for stream, branch in (parts, parts[::-1]):
        if stream == fork or (stream in known and known[stream].fork == fork):
            both_are_sums = branch in known and known[branch].fork == fork
            is_branch = not both_are_sums and _count_mixing(flow, fork, branch)
            return Residual(event, result, branch, fork) if is_branch else None
    return _with_projected_shortcut(flow, event, result, parts, fork)


def _with_projected_shortcut(
    flow: Dataflow, event: Event, result: int, parts: tuple[int, ...], fork: int
) -> Residual | None:
    paths = [flow.between(fork, part) for part in parts]
    if any(path is None or any(map(flow.upsampled, path)) for path in paths):
        return None
    weights = [sum(map(flow.parametric, path or ())) for path in paths]
    if weights[0] == weights[1] or min(weights) > _MOST_LAYERS_IN_A_SHORTCUT:
        return None
    return Residual(event, result, parts[0] if weights[0] > weights[1] else parts[1], fork)


def _count_mixing(flow: Dataflow, start: int, end: int) -> int:
    """Return the number of operations on a path that are not elementwise; a path too long to search has many."""
    path = flow.between(start, end)
    return 10**6 if path is None else sum(map(flow.mixes_elements, path))


def _fusion(flow: Dataflow, event: Event, result: int, parts: tuple[int, ...]) -> Fusion | None:
    """Return a concatenation or addition as a fusion; None if its parts are only slices of one value."""
    fork = flow.common_dominator(parts)
    if fork is not None and not any(_count_mixing(flow, fork, part) for part in parts):
        return None
    upsampled = {part for part in parts if _is_upsampled_since(flow, fork, part)}
    skips = tuple(part for part in parts if not flow.decoded[part]) if upsampled else ()
    return Fusion(event, result, parts, skips)


def _is_upsampled_since(flow: Dataflow, fork: int | None, part: int) -> bool:
    """Return whether all paths from the fork to a value pass through an upsampled map."""
    for number in flow.dominators(part):
        if number == fork:
            return False
        if flow.upsampled(number):
            return any(flow.is_spatial(source) for source in flow.sources[number])
    return False
