"""The dataflow graph of an observed forward pass: numbered values (tensors), their sources, users and dominators.

A value's dominators are the values that every path from the network's input to it passes through. In a residual
network they are the feature maps between the blocks, but not those inside a block, which the shortcut bypasses.
Sources that only condition a value are not followed: time embeddings, gates, masks, the context of a cross-attention.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator
from functools import cached_property

from torch import Tensor

from attn_surgeon.surgery.observe.functions import CATS, plain_name
from attn_surgeon.surgery.observe.observe import Call, Observation
from attn_surgeon.surgery.observe.recorder import Event
from attn_surgeon.surgery.running import tensors

_PARAMETRIC = re.compile(r"^(conv|linear|bilinear|addmm|deform_conv|multi_head|[A-Z])")
_MIXING = re.compile(r"conv|linear|matmul|mm$|einsum|attention|multi_head|pool|fft|fold|lstm|gru|rnn|roll|^[A-Z]")
_ELEMENTWISE = ("add", "sub", "mul", "div", "where", "masked_fill", "addcmul", "addcdiv", "lerp", "maximum", "minimum")
_SPREADING = re.compile(r"^(expand|repeat|tile|broadcast_to|interpolate|upsample)")
_UPSAMPLING = re.compile(r"^(interpolate|upsample|conv_transpose|pixel_shuffle|max_unpool)")


class Dataflow:
    """The tensors that depend on the network's input, numbered in execution order.

    Attributes:
        values: the meta tensor that stands for each value.
        producers: the event that computed each value; None for the network's inputs.
        sources: the numbers of the values that each value was computed from.
        leading: the sources of each value, without those that only condition the others.
        users: the events that take each value as an input.
        layered: whether each value comes after a layer with weights; before the first, it is the image, normalised.
        decoded: whether each value depends on an upsampled feature map.
    """

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.values: list[Tensor] = []
        self.producers: list[Event | None] = []
        self.sources: list[tuple[int, ...]] = []
        self.leading: list[tuple[int, ...]] = []
        self.users: list[list[Event]] = []
        self.layered: list[bool] = []
        self.decoded: list[bool] = []
        self._spread: list[bool] = []
        self._dominator: list[int | None] = []
        self._root: list[int] = []
        self._numbers: dict[int, int] = {}
        for value in observation.inputs:
            self._enter(value, None, ())
        for event in observation.events:
            sources = self.numbers(event.inputs)
            if sources:
                for source in sources:
                    self.users[source].append(event)
                for value in event.outputs:
                    self._enter(value, event, sources)

    def _enter(self, value: Tensor, producer: Event | None, sources: tuple[int, ...]) -> None:
        self._numbers[id(value)] = len(self.values)
        self.values.append(value)
        self.producers.append(producer)
        self.sources.append(sources)
        self.users.append([])
        number = len(self.values) - 1
        self.layered.append(any(self.layered[source] for source in sources) or self.parametric(number))
        upsampled = self.upsampled(number) and any(self.is_spatial(source) for source in sources)
        self.decoded.append(upsampled or any(self.decoded[source] for source in sources))
        self._spread.append(self._is_spread(value, producer, sources))
        self.leading.append(self._leading(value, producer, sources))
        self._dominator.append(self.common_dominator(self.leading[-1]) if sources else None)
        self._root.append(len(self._root) if self._dominator[-1] is None else self._root[self._dominator[-1]])

    def _leading(self, value: Tensor, producer: Event | None, sources: tuple[int, ...]) -> tuple[int, ...]:
        """Return the sources of a value, without those that only condition the others.

        A conditioning source is broadcast over the others, is not floating point, or comes from another input of the
        network and is neither added nor concatenated.
        """
        name = plain_name(producer.function) if producer is not None else ""
        if name.endswith("_as"):  # expand_as, view_as: the second argument only lends its shape
            return sources[:1]
        real = tuple(source for source in sources if self.values[source].is_floating_point()) or sources
        if len(real) < 2 or name in CATS:
            return real
        alike = tuple(source for source in real if self.values[source].shape == value.shape)
        if alike and name in _ELEMENTWISE:
            real = tuple(source for source in alike if not self._spread[source]) or alike
        if name == "add":
            return real
        first = next((source for source in real if source in alike), real[0])
        return tuple(source for source in real if not self._from_another_input(source, first))

    def _from_another_input(self, number: int, other: int) -> bool:
        """Return whether a value comes from an input of the network that `other` does not come from."""
        root = self._root[number]
        return self.producers[root] is None and self._root[other] != root

    def _is_spread(self, value: Tensor, producer: Event | None, sources: tuple[int, ...]) -> bool:
        """Return whether a value is one without spatial extent, broadcast to every position."""
        if producer is None or self.mixes_elements(len(self.values) - 1):
            return False
        fewest = min(self.values[source].numel() for source in sources)
        spreads = _SPREADING.match(producer.function) is not None and value.numel() > fewest
        return (spreads and not self.is_spatial(sources[0])) or all(self._spread[source] for source in sources)

    def number(self, value: object) -> int | None:
        """Return the number of a value; None where it does not depend on the network's input."""
        return self._numbers.get(id(value))

    def numbers(self, values: Iterable[object]) -> tuple[int, ...]:
        """Return the numbers of the values that depend on the network's input, each once."""
        numbers = map(self.number, values)
        return tuple(dict.fromkeys(number for number in numbers if number is not None))

    @property
    def outputs(self) -> tuple[int, ...]:
        """The numbers of the network's outputs."""
        return self.numbers(tensors(self.observation.output))

    @cached_property
    def reaching_output(self) -> frozenset[int]:
        """The numbers of the values that the network's outputs depend on."""
        reaching = set(self.outputs)
        for number in reversed(range(len(self.values))):
            if number in reaching:
                reaching.update(self.sources[number])
        return frozenset(reaching)

    def common_dominator(self, numbers: Iterable[int]) -> int | None:
        """Return the nearest common dominator: the last value that all paths to these values pass through."""
        first, *others = numbers
        dominator: int | None = first
        for other in others:
            dominator = self._intersect(dominator, other)
        return dominator

    def _intersect(self, left: int | None, right: int | None) -> int | None:
        while left != right:
            if left is None or right is None:
                return None
            if left > right:  # a dominator has a lower number than what it dominates
                left = self._dominator[left]
            else:
                right = self._dominator[right]
        return left

    def dominators(self, number: int | None) -> Iterator[int]:
        """Yield a value and its dominators, back to the input."""
        while number is not None:
            yield number
            number = self._dominator[number]

    def between(self, start: int | None, end: int, limit: int = 500) -> list[int] | None:
        """Return the values on all paths from `start` (exclusive) to `end` (inclusive); None above the limit."""
        if start == end:
            return []
        visited, waiting = {end}, [end]
        while waiting:
            for source in self.sources[waiting.pop()]:
                after_start = start is None or source > start
                if after_start and source not in visited:
                    visited.add(source)
                    waiting.append(source)
            if len(visited) > limit:
                return None
        return sorted(visited)

    def parametric(self, number: int) -> bool:
        """Return whether an operation with weights, such as a convolution or a linear layer, computed the value."""
        producer = self.producers[number]
        return producer is not None and _PARAMETRIC.match(producer.function) is not None

    def joins(self, number: int) -> bool:
        """Return whether the value is a concatenation or a sum of several values."""
        producer = self.producers[number]
        joined = producer is not None and plain_name(producer.function) in (*CATS, "add")
        return joined and len(self.sources[number]) > 1

    def depthwise(self, number: int) -> bool:
        """Return whether a depthwise convolution computed the value."""
        producer = self.producers[number]
        inputs = producer.inputs if producer else ()
        weights = [value for value in inputs if value.ndim > 2 and id(value) not in self._numbers]
        return self.parametric(number) and bool(weights) and weights[0].shape[1] == 1

    def mixes_elements(self, number: int) -> bool:
        """Return whether the value was computed by an operation that is not elementwise."""
        producer = self.producers[number]
        return producer is not None and _MIXING.search(producer.function) is not None

    def upsampled(self, number: int) -> bool:
        """Return whether the value was computed by upsampling."""
        producer = self.producers[number]
        return producer is not None and _UPSAMPLING.match(producer.function) is not None

    def is_spatial(self, number: int) -> bool:
        """Return whether a value has more than one position, so that it is a map rather than a vector."""
        return math.prod(self.values[number].shape[2:]) > 1

    def callers(self, event: Event) -> Iterator[Call]:
        """Yield the module calls that an event ran in, the innermost first."""
        index = event.call
        while index is not None:
            call = self.observation.by_index[index]
            yield call
            index = call.caller

    def first_input(self, call: Call) -> int | None:
        """Return the number of the first value among the arguments of a call; None where it has none."""
        numbers = self.numbers([*call.args, *call.kwargs.values()])
        return numbers[0] if numbers else None

    def computed_in(self, number: int, call: Call) -> bool:
        """Return whether a value was computed in a module call, at any depth."""
        producer = self.producers[number]
        return producer is not None and any(other is call for other in self.callers(producer))
