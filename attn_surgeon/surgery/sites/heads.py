"""The heads of a network: the last feature maps that all paths to its outputs pass through."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.functions import ACTIVATIONS, ATTENTION, CATS, NORMS, RESHAPES, plain_name
from attn_surgeon.surgery.sites.side_branches import Maps, whole_images

_MOST_CANDIDATES = 20
_BOX_COORDINATES = 4
_SLICES = ("getitem", "chunk", "split", "narrow")
_BEFORE_ATTENTION = (*RESHAPES, *NORMS, "unbind", *_SLICES)
_AFTER_LAYERS = ("add", *CATS, *NORMS, *ACTIVATIONS)


def find_heads(flow: Dataflow, maps: Maps, reaches_output: Callable[[int], bool]) -> list[int]:
    """Return the last feature maps before the classifiers, one for each output branch.

    `reaches_output` returns whether the output depends on the positions of a value.
    """
    found: dict[int, None] = {}
    for output in flow.outputs:
        for number in _before_classifier(flow, maps, output):
            head = _last_map(flow, maps, number, reaches_output)
            if head is not None:
                found[head] = None
    return sorted(found)


def _before_classifier(flow: Dataflow, maps: Maps, output: int) -> list[int]:
    """Return the inputs of the last layers with parameters before an output."""
    found: list[int] = []
    waiting, seen = [output], {output}
    while waiting:
        number = waiting.pop()
        producer = flow.producers[number]
        if producer is None:
            continue
        if flow.parametric(number):
            found += flow.sources[number]
        elif _is_features(flow, maps, number) and (_is_map(maps, output) or plain_name(producer.function) not in CATS):
            found.append(number)  # the network returns features, not what a classifier computes from them
        else:
            new = [source for source in flow.sources[number] if source not in seen]
            waiting += new
            seen.update(new)
    return found


def _is_map(maps: Maps, number: int) -> bool:
    return number in maps and maps[number].positions > 1


def _is_features(flow: Dataflow, maps: Maps, number: int) -> bool:
    """Return whether a value is a map right after a norm, an activation or a join, and neither an image nor boxes."""
    producer, image = flow.producers[number], flow.observation.inputs[0]
    narrow = max(_BOX_COORDINATES, image.shape[-3] if image.ndim >= 3 else 1)
    kept = producer is not None and plain_name(producer.function) in _AFTER_LAYERS
    return kept and _is_map(maps, number) and maps[number].channels > narrow


def _last_map(flow: Dataflow, maps: Maps, number: int, reaches_output: Callable[[int], bool]) -> int | None:
    """Return the last map that all paths to a value pass through, else the last map on any of them."""
    chain = (value for value in flow.dominators(number) if _is_map(maps, value) and flow.layered[value])
    chain = (
        value
        for value in chain
        if not ((flow.parametric(value) or _is_slice(flow, value)) and _is_attention_pooled(flow, value))
    )
    head = next((value for value in chain if reaches_output(value)), None)
    if head is not None:
        return head
    earlier = reversed(flow.between(None, number, limit=len(flow.values)) or [])
    on_the_way = (value for value in earlier if _on_trunk(flow, maps, value) and flow.layered[value])
    return next((value for value in islice(on_the_way, _MOST_CANDIDATES) if reaches_output(value)), None)


def _on_trunk(flow: Dataflow, maps: Maps, number: int) -> bool:
    """Return whether a value is a map of whole images, not of regions or windows in them."""
    return number in maps and whole_images(flow, maps[number])


def _is_slice(flow: Dataflow, number: int) -> bool:
    """Return whether a value is a slice of another, such as the tokens without the class token."""
    producer = flow.producers[number]
    return producer is not None and plain_name(producer.function) in _SLICES


def _is_attention_pooled(flow: Dataflow, number: int) -> bool:
    """Return whether a value is used by attention only, as in attention pooling, which projects its input first."""
    waiting, attended = [number], False
    while waiting:
        for event in flow.users[waiting.pop()]:
            name = plain_name(event.function)
            if ATTENTION.search(name):
                attended = True
            elif name in _BEFORE_ATTENTION or name == "linear":
                waiting += flow.numbers(event.outputs)
            else:
                return False
    return attended
