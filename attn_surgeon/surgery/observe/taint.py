"""Taint analysis with NaN: whether the network's output depends on a value.

The network runs with NaN in one value, and its output depends on that value where it has NaN too. The dataflow graph
alone does not answer this: a classifier that reads only the class token still computes the other tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from difflib import SequenceMatcher
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.surgery import running
from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.functions import plain_name
from attn_surgeon.surgery.observe.observe import Observation, run_recorded
from attn_surgeon.surgery.observe.recorder import Event, Recorder


class TaintAnalysis:
    """Whether the output of an observed run depends on a value, by number; each value is tested once.

    `prefixes` maps values to their number of prefix tokens, which get no NaN because blocks leave them unchanged. In a
    network without prefix tokens the output is taken to depend on every value, and nothing is run.
    """

    def __init__(self, flow: Dataflow, prefixes: Mapping[int, int]) -> None:
        self.flow, self.prefixes = flow, prefixes
        self._needed = any(prefixes.values())
        self._results: dict[int, bool] = {}

    def __call__(self, number: int) -> bool:
        """Return whether the output depends on the positions of a value."""
        if self._needed and number not in self._results:
            self._results[number] = self._reaches_output(number)
        return self._results.get(number, True)

    def _reaches_output(self, number: int) -> bool:
        producer = self.flow.producers[number]
        index = None if producer is None else self._indices.get(id(producer))
        if producer is None or index is None:
            return True
        position = [id(value) for value in producer.outputs].index(id(self.flow.values[number]))
        taint = _ValueTaint(index, position, self.prefixes.get(number, 0))
        # A value that could not be tainted, such as the output of a scripted module, is taken to reach the output.
        return _output_has_nan(self.flow.observation, taint) or not taint.done

    @cached_property
    def _indices(self) -> dict[int, int]:
        """The index that each event of the observed run has in later ones, by identity.

        Some networks, such as D-FINE, compute what depends on the size alone, such as anchors, in their first run only.
        """
        observation, recorder = self.flow.observation, Recorder()
        run_recorded(observation.model, observation.example, recorder)
        first, later = list(map(_signature, observation.events)), list(map(_signature, recorder.events))
        blocks: Sequence[tuple[int, int, int]] = [(0, 0, len(first))]
        if first != later:
            blocks = SequenceMatcher(None, first, later, autojunk=False).get_matching_blocks()
        return {id(observation.events[a + i]): b + i for a, b, size in blocks for i in range(size)}


def _signature(event: Event) -> Hashable:
    return plain_name(event.function), tuple(output.shape for output in event.outputs)


def graft_reaches_output(observation: Observation, block: nn.Module, prefix: int) -> bool:
    """Return whether the output of an observed network depends on the output of a graft, prefix tokens apart."""
    return _output_has_nan(observation, _GraftTaint(block, prefix))


def _output_has_nan(observation: Observation, taint: Recorder) -> bool:
    return running.has_nan(run_recorded(observation.model, observation.example, taint))


def _fill_with_nan(tensor: Tensor, prefix: int) -> Tensor:
    (tensor[:, prefix:] if prefix else tensor).fill_(torch.nan)
    return tensor


class _GraftTaint(Recorder):
    """A recorder that puts NaN into the output of one graft."""

    def __init__(self, block: nn.Module, prefix: int) -> None:
        super().__init__()
        self.block, self.prefix = block, prefix

    def resume(self, graft: nn.Module, x: Tensor, output: Tensor) -> Tensor:
        tainted = _fill_with_nan(output.clone(), self.prefix) if graft is self.block else output
        return super().resume(graft, x, tainted)


class _ValueTaint(Recorder):
    """A recorder that puts NaN into one output of one event; `done` is whether that output was computed."""

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
        in_place = any(tensor is x for x in inputs)
        return _fill_with_nan(tensor if in_place else tensor.clone(), self.prefix)
