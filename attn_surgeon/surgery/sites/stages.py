"""Find the ends of stages: at each resolution, the last map that all paths to the lowest resolution pass through."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.functions import RESHAPES, plain_name
from attn_surgeon.surgery.observe.observe import Call
from attn_surgeon.surgery.running import tensors
from attn_surgeon.surgery.sites.side_branches import DOWNSAMPLED, Maps, SideBranches, whole_images

_MOST_LAYERS = 1  # between a block's input and its strided layer


def find_stage_ends(flow: Dataflow, maps: Maps, heads: Sequence[int], layers: Collection[int]) -> list[int]:
    """Return the last feature map before each downsampling, and the last of all.

    The deepest map is searched among `layers`, the values that modules return.
    """
    maps = {number: maps[number] for number in maps if whole_images(flow, maps[number]) and flow.layered[number]}
    last = _deepest(flow, maps, heads, layers)
    if last is None:
        return []
    trunk = _descending(flow, maps, reversed(list(flow.dominators(_before_flattening(flow, maps, last)))))
    ends = [
        _block_input(flow, maps, end, start)
        for end, start in pairwise(trunk)
        if maps[start].positions < DOWNSAMPLED * maps[end].positions
    ]
    return list(dict.fromkeys([*ends, *trunk[-1:]]))


def _before_flattening(flow: Dataflow, maps: Maps, number: int) -> int:
    """Return the map that a value was flattened from, or the value itself."""
    producer = flow.producers[number]
    if producer is None or maps[number].layout != "NCL" or plain_name(producer.function) not in RESHAPES:
        return number
    sources = [source for source in flow.sources[number] if source in maps and maps[source].layout in ("NCHW", "NHWC")]
    return sources[0] if len(sources) == 1 else number


def _descending(flow: Dataflow, maps: Maps, chain: Iterator[int]) -> list[int]:
    """Return the maps of a chain, without those that have more positions than the last one but are not upsampled."""
    kept: list[int] = []
    for number in chain:
        positions = maps[number].positions if number in maps else 0
        if positions and (not kept or flow.decoded[number] or positions <= maps[kept[-1]].positions / DOWNSAMPLED):
            kept.append(number)
    return kept


def _deepest(flow: Dataflow, maps: Maps, heads: Sequence[int], layers: Collection[int]) -> int | None:
    """Return the map with most channels at the lowest resolution before the heads, or a head of still lower resolution.

    Of several, it is the last that all paths to the last map of that resolution pass through.
    """
    before = {number for head in heads for number in flow.between(None, head, limit=len(flow.values)) or ()}
    reached = SideBranches(flow, maps, heads).trunk & (before or flow.reaching_output)
    candidates = [number for number in layers if number in reached and number in maps]
    if not candidates:
        return None
    lowest = min(maps[number].positions for number in candidates)
    low_heads = [
        head for head in heads if head in reached & maps.keys() and maps[head].positions <= lowest / DOWNSAMPLED
    ]
    if low_heads:
        return _shared(flow, maps, low_heads, candidates) or max(low_heads)
    low = [number for number in candidates if maps[number].positions == lowest]
    whole = [number for number in low if not _is_within_stage(flow, maps, number, low)] or low
    widest = max(maps[number].channels for number in whole)
    wide = [number for number in whole if maps[number].channels == widest]
    return next((number for number in flow.dominators(max(whole)) if number in wide), max(wide))


def _shared(flow: Dataflow, maps: Maps, heads: Sequence[int], candidates: Collection[int]) -> int | None:
    """Return the map that several heads of its width are computed from, as a detector's of classes and of boxes are."""
    chain = flow.dominators(flow.common_dominator(heads)) if len(heads) > 1 else ()
    shared = next((number for number in chain if number in candidates), None)
    alike = shared is not None and all(maps[head].channels == maps[shared].channels for head in heads)
    return shared if alike else None


def _is_within_stage(flow: Dataflow, maps: Maps, number: int, low: Collection[int]) -> bool:
    """Return whether a map is inside a module that takes or returns a map of the same resolution."""
    for call in _inner_calls(flow, number):
        output = flow.number(call.output)
        inputs = [value for value in flow.numbers(tensors((call.args, call.kwargs))) if value in maps]
        if output != number and (output in low or any(_same_resolution(maps, value, number) for value in inputs)):
            return True
    return False


def _block_input(flow: Dataflow, maps: Maps, end: int, start: int) -> int:
    """Return the end of a stage: the last map before a downsampling, or the input of the block that downsamples.

    A block may widen or normalise its input before its strided layer; that map is not the output of the stage before,
    so the block's input is returned. If the block ends with the downsampling, its earlier layers belong to the stage,
    unless they only reduce channels.
    """
    result = end
    for call in _inner_calls(flow, start):
        block_input = flow.first_input(call)
        if block_input not in maps or block_input is None:
            continue
        if not _same_resolution(maps, block_input, end):
            break
        keeps_resolution = _keeps_resolution(flow, maps, call, start)
        reduces_channels = maps[end].channels < maps[block_input].channels
        ends = not keeps_resolution or not (reduces_channels or _has_layers_from(flow, maps, call, start))
        if block_input != end and not _is_light(flow, block_input, end):
            break
        result = result if ends else block_input
    return result


def _same_resolution(maps: Maps, one: int, other: int) -> bool:
    return DOWNSAMPLED < maps[one].positions / maps[other].positions < 1 / DOWNSAMPLED


def _inner_calls(flow: Dataflow, number: int) -> Iterator[Call]:
    """Yield the calls that a value was computed in, without the network's own."""
    producer = flow.producers[number]
    if producer is not None:
        yield from (call for call in flow.callers(producer) if call.caller is not None)


def _keeps_resolution(flow: Dataflow, maps: Maps, call: Call, start: int) -> bool:
    """Return whether a call returns a map of the resolution after its downsampling."""
    return any(_same_resolution(maps, number, start) for number in flow.numbers(tensors(call.output)) if number in maps)


def _has_layers_from(flow: Dataflow, maps: Maps, call: Call, start: int) -> bool:
    """Return whether a call has layers from its downsampling on."""
    last = max((number for number in flow.numbers(tensors(call.output)) if number in maps), default=start)
    return any(flow.parametric(number) and flow.computed_in(number, call) for number in range(start, last + 1))


def _is_light(flow: Dataflow, start: int, end: int) -> bool:
    """Return whether each path has at most one layer that mixes channels; paths that join have one each."""
    if start not in flow.dominators(end):
        return False
    path = flow.between(start, end)
    if path is None:
        return False
    layers = {start: 0}
    for number in sorted(path):
        before = {layers[source] for source in flow.sources[number] if source in layers}
        if flow.joins(number) and before != {1}:
            return False
        layers[number] = max(before, default=0) + (flow.parametric(number) and not flow.depthwise(number))
    return max(layers.values()) <= _MOST_LAYERS
