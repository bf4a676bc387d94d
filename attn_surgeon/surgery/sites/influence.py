"""Whether the network's output depends on the places of a map: they are made NaN, and the output is looked at.

Attention with a class token leaves the other tokens unread after its last block, though they flow on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from attn_surgeon.surgery import running
from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.observe import run_recorded
from attn_surgeon.surgery.observe.recorder import Recorder
from attn_surgeon.surgery.sites.carriers import Carriers


class Influence:
    """Tell, by number, whether the places of a run's maps matter; they are in doubt where there are prefix tokens."""

    def __init__(self, flow: Dataflow, carriers: Carriers) -> None:
        self.flow, self.maps = flow, carriers.maps
        self.doubtful = any(feature.prefix for feature in self.maps.values())
        self._index = {id(event): index for index, event in enumerate(flow.seen.events)}
        self._known: dict[int, bool] = {}

    def __call__(self, number: int) -> bool:
        """Say whether the output depends on a value's places."""
        if self.doubtful and number not in self._known:
            self._known[number] = self._spreads(number)
        return self._known.get(number, True)

    def _spreads(self, number: int) -> bool:
        """Run the network with NaN in one value; one that no operation made alone is taken to matter."""
        maker = self.flow.makers[number]
        if maker is None:
            return True
        position = [id(value) for value in maker.outputs].index(id(self.flow.values[number]))
        feature = self.maps.get(number)
        poisoner = _Poisoner(self._index[id(maker)], position, feature.prefix if feature else 0)
        output = run_recorded(self.flow.seen.model, self.flow.seen.example, poisoner)
        return not poisoner.done or running.has_nan(output)


class _Poisoner(Recorder):
    """Put NaN into one output of one event, but for its prefix tokens."""

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
        return running.map_tensors(output, lambda tensor: self._poisoned(tensor, value, inputs))

    def _poisoned(self, tensor: Tensor, value: Tensor, inputs: Sequence[Tensor]) -> Tensor:
        if self.stand_in(tensor) is not value:
            return tensor
        self.done = True
        poisoned = tensor if any(tensor is given for given in inputs) else tensor.clone()
        (poisoned[:, self.prefix :] if self.prefix else poisoned).fill_(torch.nan)
        return poisoned
