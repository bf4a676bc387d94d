"""Detours through lower resolutions: the way down and up of an encoder and its decoder, or only a side branch.

A side branch leaves the trunk, and what comes of it only conditions the trunk or adds a little: a gate, the keys and
values of an attention, a pooled grid, a few layers inside a block. Its maps are no stages of the network.
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
DOWN = 0.6  # a stride of two halves one axis at least; a convolution without padding takes off less
_LIGHT_FRACTION = 0.5  # of the layers before it, what a side branch that is no gate has at most
_GATES = ("sigmoid", "hardsigmoid", "softmax", "tanh", "hardtanh")


def whole_images(flow: Dataflow, feature: Feature) -> bool:
    """Return whether a map is one of whole images, not of regions or windows in them."""
    images = flow.observation.inputs
    return feature.positions > 1 and feature.shape[0] in (len(images[0]) if images[0].ndim else 1, len(images))


class Detours:
    """The side branches of a run and its trunk; `heads` are the last maps before the network's outputs."""

    def __init__(self, flow: Dataflow, maps: Maps, heads: Sequence[int]) -> None:
        self.flow, self.heads = flow, heads
        self.maps = {number: feature for number, feature in maps.items() if whole_images(flow, feature)}
        self._forks: dict[int, int | None] = {}
        self._layers = list(accumulate(map(flow.parametric, range(len(flow.values)))))

    @cached_property
    def trunk(self) -> frozenset[int]:
        """The values that the network's outputs depend on by other paths than side branches."""
        found = set(self.flow.outputs)
        for number in reversed(range(len(self.flow.values))):
            if number in found:
                found.update(source for source in self.flow.sources[number] if not self.is_side_branch(number, source))
        return frozenset(found)

    def is_side_branch(self, total: int, part: int) -> bool:
        """Return whether one of a value's sources comes from a side branch."""
        sources = self.flow.sources[total]
        if len(sources) == 1:
            return False
        if part not in self.flow.leading[total]:
            return True
        fork = self._fork(total)
        return fork is not None and self._goes_lower(fork, total, part) and self._is_minor(fork, total, part)

    def _fork(self, total: int) -> int | None:
        """Return the map that all sources of a value come from, if there are lower resolutions after it."""
        if total not in self._forks:
            chain = self.flow.dominators(self.flow.common_dominator(self.flow.sources[total]))
            fork = next((value for value in chain if value in self.maps), None)
            since = range(total if fork is None else fork, total)
            self._forks[total] = fork if fork is not None and any(self._is_lower(fork, n) for n in since) else None
        return self._forks[total]

    def _goes_lower(self, fork: int, total: int, part: int) -> bool:
        """Return whether a source's path has lower resolutions than another source's."""
        others = [source for source in self.flow.leading[total] if source != part]
        lowest = max((self._lowest(fork, other) for other in others), default=0)
        return self._lowest(fork, part) < DOWN * lowest

    def _is_lower(self, fork: int, number: int) -> bool:
        return number in self.maps and self.maps[number].positions < DOWN * self.maps[fork].positions

    def _lowest(self, fork: int, part: int) -> int:
        path = self.flow.between(fork, part) or ()
        return min(self.maps[number].positions for number in (fork, *path) if number in self.maps)

    def _is_minor(self, fork: int, total: int, part: int) -> bool:
        """Return whether what comes back is only a side branch's, by one of the criteria below."""
        maker = self.flow.producers[total]
        name = plain_name(maker.function) if maker is not None else ""
        if ATTENTION.search(name):
            return True
        if self._is_lower(fork, part):  # not upsampled again, but read beside the others, as a detector's levels are
            return False
        way = list(takewhile(lambda number: number > fork, self.flow.dominators(part)))
        if name == "mul" and self._any(way, lambda function: function in _GATES):
            return True
        pooled = self._any(way, lambda function: function.startswith("adaptive_"), only=self.maps)
        return pooled or self._is_narrow(fork, part) or self._is_light(fork, total, part)

    def _any(self, way: Sequence[int], wanted: Callable[[str], bool], only: Maps | None = None) -> bool:
        makers = [self.flow.producers[number] for number in way if only is None or number in only]
        return any(wanted(plain_name(maker.function)) for maker in makers if maker is not None)

    def _is_narrow(self, fork: int, part: int) -> bool:
        """Return whether the layers at the lower resolutions all have fewer channels than the fork."""
        low = [number for number in self.flow.between(fork, part) or () if self._is_lower(fork, number)]
        first = next((number for number in low if self.flow.parametric(number)), None)
        made = [self.maps[number].channels for number in low if first is not None and number >= first]
        return max(made, default=0) < self.maps[fork].channels

    def _is_light(self, fork: int, total: int, part: int) -> bool:
        """Return whether few layers are on the path, in a network that does not upsample further.

        What leaves the first resolution of all and comes back is no side branch, for there is no other trunk.
        """
        path, image = self.flow.between(fork, part), math.prod(self.flow.observation.inputs[0].shape[2:])
        if self.maps[fork].positions >= DOWN * image or path is None:
            return False
        if sum(map(self.flow.parametric, path)) >= _LIGHT_FRACTION * self._layers[fork]:
            return False
        later = any(self._is_lower(fork, number) for number in self.maps if number > total)
        heads = [self.maps[head].positions for head in self.heads if head in self.maps and head >= total]
        return later or max(heads, default=0) <= self.maps[fork].positions / DOWN
