"""The dataflow of a run: a graph of numbered values, with dominators.

A value's dominators are the values that every path from the network's input to it passes through. In a residual
network they are the feature maps between the blocks, not those inside one, for the shortcut bypasses these. Paths that
only condition what flows on another are not followed: time embeddings, gates, masks, the context of a cross-attention.
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
    """The values that depend on the network's input, numbered in the order in which they were computed.

    Attributes:
        values: the stand-ins of the values.
        makers: the event that computed each value; None for the network's inputs.
        sources: the values that each was computed from.
        leading: those of its sources that do more than condition the others.
        users: the events that take each value.
        layered: whether it comes after the first layer; before it, it is the image, at most normalised.
        decoded: whether it comes from an upsampled map.
    """

    def __init__(self, seen: Observation) -> None:
        self.seen = seen
        self.values: list[Tensor] = []
        self.makers: list[Event | None] = []
        self.sources: list[tuple[int, ...]] = []
        self.leading: list[tuple[int, ...]] = []
        self.users: list[list[Event]] = []
        self.layered: list[bool] = []
        self.decoded: list[bool] = []
        self._spread: list[bool] = []
        self._dominator: list[int | None] = []
        self._root: list[int] = []
        self._numbers: dict[int, int] = {}
        for value in seen.inputs:
            self._enter(value, None, ())
        for event in seen.events:
            sources = self.numbers(event.inputs)
            if sources:
                for source in sources:
                    self.users[source].append(event)
                for value in event.outputs:
                    self._enter(value, event, sources)

    def _enter(self, value: Tensor, maker: Event | None, sources: tuple[int, ...]) -> None:
        self._numbers[id(value)] = len(self.values)
        self.values.append(value)
        self.makers.append(maker)
        self.sources.append(sources)
        self.users.append([])
        self.layered.append(any(self.layered[source] for source in sources) or self.parametric(len(self.values) - 1))
        enlarged = self.upsampled(len(self.values) - 1) and any(self.has_positions(source) for source in sources)
        self.decoded.append(enlarged or any(self.decoded[source] for source in sources))
        self._spread.append(self._is_spread(value, maker, sources))
        self.leading.append(self._leading(value, maker, sources))
        self._dominator.append(self.common_dominator(self.leading[-1]) if sources else None)
        self._root.append(len(self._root) if self._dominator[-1] is None else self._root[self._dominator[-1]])

    def _leading(self, value: Tensor, maker: Event | None, sources: tuple[int, ...]) -> tuple[int, ...]:
        """Return the sources of a value, without those that only condition the others.

        They are spread over the others, are no floating-point numbers, or come from another input of the network and
        are neither added nor joined on to what flows here.
        """
        name = plain_name(maker.function) if maker is not None else ""
        if name.endswith("_as"):
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
        return tuple(source for source in real if not self._from_elsewhere(source, first))

    def _from_elsewhere(self, number: int, other: int) -> bool:
        """Return whether a value comes from an input of the network that another value does not come from."""
        root = self._root[number]
        return self.makers[root] is None and self._root[other] != root

    def _is_spread(self, value: Tensor, maker: Event | None, sources: tuple[int, ...]) -> bool:
        """Return whether a value repeats one without spatial extent at every position."""
        if maker is None or self.mixes(len(self.values) - 1):
            return False
        fewest = min(self.values[source].numel() for source in sources)
        spreads = _SPREADING.match(maker.function) is not None and value.numel() > fewest
        return (spreads and not self.has_positions(sources[0])) or all(self._spread[source] for source in sources)

    def number(self, value: object) -> int | None:
        """Return a value's number; None where it does not depend on the network's input."""
        return self._numbers.get(id(value))

    def numbers(self, values: Iterable[object]) -> tuple[int, ...]:
        """Return the numbers of the values that depend on the network's input, each once."""
        found = (self._numbers.get(id(value)) for value in values)
        return tuple(dict.fromkeys(number for number in found if number is not None))

    @property
    def outputs(self) -> tuple[int, ...]:
        """The numbers of the network's outputs."""
        return self.numbers(tensors(self.seen.output))

    @cached_property
    def reaching_output(self) -> frozenset[int]:
        """The numbers of the values that the network's outputs depend on."""
        found = set(self.outputs)
        for number in reversed(range(len(self.values))):
            if number in found:
                found.update(self.sources[number])
        return frozenset(found)

    def common_dominator(self, numbers: Iterable[int]) -> int | None:
        """Return the last value that all paths to all the given ones pass through: their common dominator."""
        first, *others = numbers
        found: int | None = first
        for other in others:
            found = self._meet(found, other)
        return found

    def _meet(self, left: int | None, right: int | None) -> int | None:
        while left != right:
            if left is None or right is None:
                return None
            if left > right:  # a value is made after its dominators
                left = self._dominator[left]
            else:
                right = self._dominator[right]
        return left

    def dominators(self, number: int | None) -> Iterator[int]:
        """List a value and its dominators, back to the input."""
        while number is not None:
            yield number
            number = self._dominator[number]

    def between(self, start: int | None, end: int, limit: int = 500) -> list[int] | None:
        """List the values on all paths from `start`, without it, to `end`, with it; None where they are too many."""
        if start == end:
            return []
        found, waiting = {end}, [end]
        while waiting:
            for source in self.sources[waiting.pop()]:
                later = start is None or source > start  # what was made before the start is not on the way from it
                if later and source not in found:
                    found.add(source)
                    waiting.append(source)
            if len(found) > limit:
                return None
        return sorted(found - {start})

    def parametric(self, number: int) -> bool:
        """Return whether a convolution or a linear layer computed the value."""
        maker = self.makers[number]
        return maker is not None and _PARAMETRIC.match(maker.function) is not None

    def joins(self, number: int) -> bool:
        """Return whether the value is the concatenation or the sum of several."""
        maker = self.makers[number]
        joined = maker is not None and plain_name(maker.function) in (*CATS, "add")
        return joined and len(self.sources[number]) > 1

    def depthwise(self, number: int) -> bool:
        """Return whether a depthwise convolution computed the value."""
        maker = self.makers[number]
        weights = (
            [value for value in maker.inputs if value.ndim > 2 and id(value) not in self._numbers] if maker else []
        )
        return self.parametric(number) and bool(weights) and weights[0].shape[1] == 1

    def mixes(self, number: int) -> bool:
        """Return whether the value was computed by an operation that is not elementwise."""
        maker = self.makers[number]
        return maker is not None and _MIXING.search(maker.function) is not None

    def upsampled(self, number: int) -> bool:
        """Return whether the value was computed by upsampling."""
        maker = self.makers[number]
        return maker is not None and _UPSAMPLING.match(maker.function) is not None

    def has_positions(self, number: int) -> bool:
        """Return whether a value has more than one position."""
        return math.prod(self.values[number].shape[2:]) > 1

    def callers(self, event: Event) -> Iterator[Call]:
        """List the calls an event ran in, the innermost first."""
        index = event.call
        while index is not None:
            call = self.seen.by_index[index]
            yield call
            index = call.caller

    def given(self, call: Call) -> int | None:
        """Return the number of the first value among a call's own arguments; None without any."""
        numbers = self.numbers([*call.args, *call.kwargs.values()])
        return numbers[0] if numbers else None

    def made_in(self, number: int, call: Call) -> bool:
        """Return whether a value was computed in a call, at any depth."""
        maker = self.makers[number]
        return maker is not None and any(other is call for other in self.callers(maker))
