"""Distinguish side branches that go through lower resolutions from the trunk of a network.

The path of an encoder and its decoder is part of the trunk. A side branch leaves the trunk, and its result only
conditions the trunk or adds little to it: a gate, the keys and values of attention, a pooled grid, a few layers inside
a block. Its maps are not stages of the network.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate, takewhile

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.functions import ATTENTION, plain_name
from attn_surgeon.surgery.sites.layouts import Feature

Maps = Mapping[int, Feature]
DOWNSAMPLED = 0.6  # of the positions: stride 2 halves at least one axis; a convolution without padding removes fewer
_LIGHT_FRACTION = 0.5  # of the layers before its fork: the most that a side branch without a gate has
_GATES = ("sigmoid", "hardsigmoid", "softmax", "tanh", "hardtanh")


def whole_images(flow: Dataflow, feature: Feature) -> bool:
    """Return whether a map is one of whole images, not of regions or windows in them."""
    images = flow.observation.inputs
    return feature.positions > 1 and feature.shape[0] in (len(images[0]) if images[0].ndim else 1, len(images))


class SideBranches:
    """The side branches of a run and its trunk; `heads` are the last maps before the network's outputs."""

    def __init__(self, flow: Dataflow, maps: Maps, heads: Sequence[int]) -> None:
        self.flow, self.heads = flow, heads
        self.maps = {number: feature for number, feature in maps.items() if whole_images(flow, feature)}
        self._forks: dict[int, int | None] = {}
        self._layers = list(accumulate(map(flow.parametric, range(len(flow.values)))))

    @cached_property
    def trunk(self) -> frozenset[int]:
        """The values that the network's outputs depend on through other paths than side branches."""
        values = set(self.flow.outputs)
        for number in reversed(range(len(self.flow.values))):
            if number in values:
                values.update(source for source in self.flow.sources[number] if not self.is_side_branch(number, source))
        return frozenset(values)

    def is_side_branch(self, result: int, part: int) -> bool:
        """Return whether one of a value's sources comes from a side branch."""
        sources = self.flow.sources[result]
        if len(sources) == 1:
            return False
        if part not in self.flow.leading[result]:
            return True
        fork = self._fork(result)
        return fork is not None and self._goes_lower(fork, result, part) and self._is_auxiliary(fork, result, part)

    def _fork(self, result: int) -> int | None:
        """Return the last map that all sources of a value depend on, if there are lower resolutions after it."""
        if result not in self._forks:
            chain = self.flow.dominators(self.flow.common_dominator(self.flow.sources[result]))
            fork = next((value for value in chain if value in self.maps), None)
            since = range(result if fork is None else fork, result)
            self._forks[result] = fork if fork is not None and any(self._is_lower(fork, n) for n in since) else None
        return self._forks[result]

    def _goes_lower(self, fork: int, result: int, part: int) -> bool:
        """Return whether a source's path has lower resolutions than those of the other sources."""
        others = [source for source in self.flow.leading[result] if source != part]
        lowest = max((self._lowest(fork, other) for other in others), default=0)
        return self._lowest(fork, part) < DOWNSAMPLED * lowest

    def _is_lower(self, fork: int, number: int) -> bool:
        return number in self.maps and self.maps[number].positions < DOWNSAMPLED * self.maps[fork].positions

    def _lowest(self, fork: int, part: int) -> int:
        path = self.flow.between(fork, part) or ()
        return min(self.maps[number].positions for number in (fork, *path) if number in self.maps)

    def _is_auxiliary(self, fork: int, result: int, part: int) -> bool:
        """Return whether a part only conditions the result or adds little to it."""
        producer = self.flow.producers[result]
        name = plain_name(producer.function) if producer is not None else ""
        if ATTENTION.search(name):
            return True
        if self._is_lower(fork, part):  # not upsampled again, but used beside the others, like the levels of a detector
            return False
        path = list(takewhile(lambda number: number > fork, self.flow.dominators(part)))
        if name == "mul" and self._any_function(path, lambda function: function in _GATES):
            return True
        pooled = self._any_function(path, lambda function: function.startswith("adaptive_"), only=self.maps)
        return pooled or self._is_narrow(fork, part) or self._is_light(fork, result, part)

    def _any_function(self, path: Sequence[int], wanted: Callable[[str], bool], only: Maps | None = None) -> bool:
        producers = [self.flow.producers[number] for number in path if only is None or number in only]
        return any(wanted(plain_name(producer.function)) for producer in producers if producer is not None)

    def _is_narrow(self, fork: int, part: int) -> bool:
        """Return whether the layers at the lower resolutions all have fewer channels than the fork."""
        low = [number for number in self.flow.between(fork, part) or () if self._is_lower(fork, number)]
        first = next((number for number in low if self.flow.parametric(number)), None)
        channels = [self.maps[number].channels for number in low if first is not None and number >= first]
        return max(channels, default=0) < self.maps[fork].channels

    def _is_light(self, fork: int, result: int, part: int) -> bool:
        """Return whether few layers are on the path, in a network that does not upsample further.

        A path that leaves the resolution of the image is no side branch: nothing else could be the trunk.
        """
        path, image = self.flow.between(fork, part), math.prod(self.flow.observation.inputs[0].shape[2:])
        if self.maps[fork].positions >= DOWNSAMPLED * image or path is None:
            return False
        if sum(map(self.flow.parametric, path)) >= _LIGHT_FRACTION * self._layers[fork]:
            return False
        later = any(self._is_lower(fork, number) for number in self.maps if number > result)
        heads = [self.maps[head].positions for head in self.heads if head in self.maps and head >= result]
        return later or max(heads, default=0) <= self.maps[fork].positions / DOWNSAMPLED
