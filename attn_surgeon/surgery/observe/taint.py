"""Whether the network's output depends on a value: taint analysis with NaN.

NaN is put into one value of a run, and the output is searched for it: what is computed from NaN is NaN. The dataflow
alone cannot tell: attention with a class token leaves the other tokens unread after its last block, and they flow on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.surgery import running
from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.observe import Observation, run_recorded
from attn_surgeon.surgery.observe.recorder import Recorder


class TaintAnalysis:
    """Whether the output of an observed run depends on its values, by number; each is tried once.

    `prefixes` are the numbers of prefix tokens of the values that are maps. They stay as they are, for blocks leave
    them alone. In a network without prefix tokens the output is taken to depend on every value, and nothing is run.
    """

    def __init__(self, flow: Dataflow, prefixes: Mapping[int, int]) -> None:
        self.flow, self.prefixes = flow, prefixes
        self._needed = any(prefixes.values())
        self._index = {id(event): index for index, event in enumerate(flow.seen.events)}
        self._known: dict[int, bool] = {}

    def __call__(self, number: int) -> bool:
        """Return whether the output depends on the positions of a value."""
        if self._needed and number not in self._known:
            self._known[number] = self._reaches_output(number)
        return self._known.get(number, True)

    def _reaches_output(self, number: int) -> bool:
        maker = self.flow.makers[number]
        if maker is None:
            return True
        position = [id(value) for value in maker.outputs].index(id(self.flow.values[number]))
        taint = _ValueTaint(self._index[id(maker)], position, self.prefixes.get(number, 0))
        # A value that no operation made alone was not tainted; it is taken to reach the output.
        return _spreads(self.flow.seen, taint) or not taint.done


def graft_reaches_output(seen: Observation, block: nn.Module, prefix: int) -> bool:
    """Return whether the output of an observed network depends on what a graft makes, but for its prefix tokens."""
    return _spreads(seen, _GraftTaint(block, prefix))


def _spreads(seen: Observation, taint: Recorder) -> bool:
    return running.has_nan(run_recorded(seen.model, seen.example, taint))


def _fill_with_nan(tensor: Tensor, prefix: int) -> Tensor:
    (tensor[:, prefix:] if prefix else tensor).fill_(torch.nan)
    return tensor


class _GraftTaint(Recorder):
    """A recorder that puts NaN into the output of one graft."""

    def __init__(self, block: nn.Module, prefix: int) -> None:
        super().__init__()
        self.block, self.prefix = block, prefix

    def pass_on(self, graft: nn.Module, given: Tensor, output: Tensor) -> Tensor:
        tainted = _fill_with_nan(output.clone(), self.prefix) if graft is self.block else output
        return super().pass_on(graft, given, tainted)


class _ValueTaint(Recorder):
    """A recorder that puts NaN into one output of one event; `done` is whether that output was met."""

    def __init__(self, event: int, position: int, prefix: int) -> None:
        super().__init__()
        self.event, self.position, self.prefix = event, position, prefix
        self.done = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        before = len(self.events)
        output = super().__torch_function__(func, types, args, kwargs)
        if not before <= self.event < len(self.events):
            return output
        value = self.events[self.event].outputs[self.position]
        inputs = running.tensors((args, kwargs or {}))
        return running.map_tensors(output, lambda tensor: self._tainted(tensor, value, inputs))

    def _tainted(self, tensor: Tensor, value: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        if self.stand_in(tensor) is not value:
            return tensor
        self.done = True
        # An in-place operation returns its input: a clone would leave the input, which later operations read, clean.
        return _fill_with_nan(tensor if any(tensor is given for given in inputs) else tensor.clone(), self.prefix)
