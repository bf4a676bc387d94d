"""The trunk of a network: the feature maps that all its paths pass through, from the input to the head."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice, pairwise

from attn_surgeon.graph.observation.dataflow import Dataflow
from attn_surgeon.graph.observation.functions import ACTIVATIONS, CATS, NORMS, plain_name
from attn_surgeon.graph.observation.observe import Call
from attn_surgeon.graph.sites.detours import DOWN, Detours, Maps, whole_images

_MOST_LIGHT_OPS = 1
_MOST_TRIES = 20
_MOST_IN_A_BOX = 4
_KEEPS = ("add", *CATS, *NORMS, *ACTIVATIONS)


def find_heads(flow: Dataflow, maps: Maps, matters: Callable[[int], bool]) -> list[int]:
    """Find the last feature maps before the classifiers: one for each place where the network's outputs are made.

    `matters` says whether the output depends on the spatial part of a map.
    """
    found: dict[int, None] = {}
    for output in flow.outputs:
        for number in _before_classifier(flow, maps, output):
            head = _last_map(flow, maps, number, matters)
            if head is not None:
                found[head] = None
    return sorted(found)


def _before_classifier(flow: Dataflow, maps: Maps, output: int) -> list[int]:
    """Walk back from an output over what only reshapes or rescales it, to what the last layers were given."""
    found: list[int] = []
    waiting, seen = [output], {output}
    while waiting:
        number = waiting.pop()
        maker = flow.makers[number]
        if maker is None:
            continue
        if flow.parametric(number):
            found += flow.sources[number]
        elif _is_features(flow, maps, number) and (_is_map(maps, output) or plain_name(maker.function) not in CATS):
            found.append(number)  # the network gives features back, not what a classifier made of them
        else:
            new = [source for source in flow.sources[number] if source not in seen]
            waiting += new
            seen.update(new)
    return found


def _is_map(maps: Maps, number: int) -> bool:
    return number in maps and maps[number].positions > 1


def _is_features(flow: Dataflow, maps: Maps, number: int) -> bool:
    """Say whether a value is a map fresh from a norm, an activation or a join, and neither an image nor boxes."""
    maker, image = flow.makers[number], flow.seen.inputs[0]
    narrow = max(_MOST_IN_A_BOX, image.shape[-3] if image.ndim >= 3 else 1)
    kept = maker is not None and plain_name(maker.function) in _KEEPS
    return kept and _is_map(maps, number) and maps[number].channels > narrow


def _last_map(flow: Dataflow, maps: Maps, number: int, matters: Callable[[int], bool]) -> int | None:
    """Find the last map that all paths to a value pass through, else the last map on any of them."""
    chain = (value for value in flow.chain(number) if _is_map(maps, value) and flow.layered[value])
    head = next((value for value in chain if matters(value)), None)
    if head is not None:
        return head
    earlier = reversed(flow.between(None, number, limit=len(flow.values)) or [])
    on_the_way = (value for value in earlier if _on_trunk(flow, maps, value) and flow.layered[value])
    return next((value for value in islice(on_the_way, _MOST_TRIES) if matters(value)), None)


def find_stage_ends(flow: Dataflow, maps: Maps, heads: Sequence[int], layers: Collection[int]) -> list[int]:
    """Find the last feature map before each downsampling, and the last of all.

    `layers` are the values that modules gave back, among which the deepest is looked for.
    """
    last = _deepest(flow, maps, heads, layers)
    if last is None:
        return []
    chain = reversed(list(flow.chain(last)))
    trunk = [number for number in chain if _on_trunk(flow, maps, number) and flow.layered[number]]
    ends = [
        _settled(flow, maps, end, start)
        for end, start in pairwise(trunk)
        if maps[start].positions < DOWN * maps[end].positions
    ]
    return [end for end in dict.fromkeys([*ends, *trunk[-1:]]) if flow.layered[end]]


def _on_trunk(flow: Dataflow, maps: Maps, number: int) -> bool:
    """Say whether a value is a map of whole images, not of regions or windows in them."""
    return number in maps and whole_images(flow, maps[number])


def _deepest(flow: Dataflow, maps: Maps, heads: Sequence[int], layers: Collection[int]) -> int | None:
    """Find the widest map of the lowest resolution, not past the heads; a head, where one is.

    Of several, it is the last that all paths to the last map of that resolution pass through.
    """
    before = {number for head in heads for number in flow.between(None, head, limit=len(flow.values)) or ()}
    reached = Detours(flow, maps, heads).trunk & (before or flow.reaching)
    candidates = [number for number in layers if number in reached and _on_trunk(flow, maps, number)]
    if not candidates:
        return None
    lowest = min(maps[number].positions for number in candidates)
    low_heads = [head for head in heads if _on_trunk(flow, maps, head) and maps[head].positions <= lowest / DOWN]
    if low_heads:
        return max(low_heads)
    low = [number for number in candidates if maps[number].positions == lowest]
    widest = max(maps[number].channels for number in low)
    wide = [number for number in low if maps[number].channels == widest]
    return next((number for number in flow.chain(max(low)) if number in wide), max(wide))


def _settled(flow: Dataflow, maps: Maps, end: int, start: int) -> int:
    """Go back from inside the block that begins with the downsampling to what the block was given.

    A block may widen its input before it strides, or norm it; that map is not what its stage gave.
    """
    for call in _inner_calls(flow, start):
        given = flow.given(call)
        if given is None or given not in maps or not _on_trunk(flow, maps, given):
            continue
        if not DOWN < maps[given].positions / maps[end].positions < 1 / DOWN:
            return end
        if given != end and not _light(flow, given, end):
            return end
        end = given
    return end


def _inner_calls(flow: Dataflow, number: int) -> Iterator[Call]:
    """List the calls a value was made in, without the network's own."""
    maker = flow.makers[number]
    if maker is not None:
        yield from (call for call in flow.callers(maker) if call.caller is not None)


def _light(flow: Dataflow, start: int, end: int) -> bool:
    """Say whether little happens on the way: one layer at most, and no paths that meet."""
    if start not in flow.chain(end):
        return False
    path = flow.between(start, end)
    if path is None:
        return False
    return sum(map(flow.parametric, path)) <= _MOST_LIGHT_OPS and all(len(flow.sources[n]) == 1 for n in path)
