"""Record the operations of a forward pass with a `TorchFunctionMode`, with a meta tensor as stand-in for each value.

One stand-in is one value: a tensor gets a new stand-in when it is changed in place, and a module that returns its input
returns the same one. So the same value is at two places exactly when their stand-ins are the same object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils.weak import WeakIdKeyDictionary

from attn_surgeon.surgery import running


@dataclass(frozen=True, eq=False)
class Event:
    """One operation on tensors, in the forward of the module call with the index `call`.

    `output` is what the operation returned; `outputs` are all values that it computed, those changed in place included.
    """

    function: str
    call: int | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    output: Any


@dataclass(frozen=True, eq=False)
class TensorHolder:
    """A stand-in for an object that is no container of Python's but has tensors as attributes."""

    type: str
    values: tuple[Tensor, ...]


class Recorder(TorchFunctionMode):
    """Record every operation on tensors while a network runs."""

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.stack: list[int] = []
        self.grafted: dict[int, Tensor] = {}
        self.newer: dict[int, Tensor] = {}
        self._stand_ins: MutableMapping[Tensor, tuple[Tensor, int]] = WeakIdKeyDictionary()  # with `_version`
        self._changed: tuple[Tensor, ...] = ()
        self._produced: set[int] = set()
        self._paused = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        arguments = running.tensors((args, kwargs))
        inputs = [self._value(tensor) for tensor in arguments]
        versions = [tensor._version for tensor in arguments]
        output = func(*args, **kwargs)
        changed = {
            id(value): tensor
            for value, tensor, version in zip(inputs, arguments, versions, strict=True)
            if tensor._version != version  # torch counts in-place operations there
        }
        self._record(getattr(func, "__name__", type(func).__name__), inputs, changed, output)
        return output

    def _record(self, function: str, inputs: list[Tensor], changed: dict[int, Tensor], output: Any) -> None:
        """Record an operation; `changed` are the tensors that it wrote to, by the `id` of their former stand-ins."""
        if not changed and not running.tensors(output):
            return
        renewed = [self._new_value(tensor) for tensor in changed.values()]
        self.newer.update(zip(changed, renewed, strict=True))
        described = self._described(output)
        results = dict.fromkeys((*renewed, *running.tensors(described)))
        outputs = tuple(value for value in results if not any(value is old for old in inputs))
        if renewed:
            self._changed = tuple(renewed)
        if outputs:
            self._add_event(function, tuple(inputs), outputs, described)

    def describe(self, value: Any) -> Any:
        """Return a nested value with stand-ins in place of its tensors."""
        self._paused = True
        try:
            return self._described(value)
        finally:
            self._paused = False

    def stand_in(self, tensor: Tensor) -> Tensor | None:
        """Return the last stand-in of a tensor; None for one that was not recorded."""
        entry = self._stand_ins.get(tensor)
        return None if entry is None else entry[0]

    def pause(self) -> None:
        """Stop recording, until `resume`."""
        self._paused = True

    def resume(self, graft: nn.Module, x: Tensor, output: Tensor) -> Tensor:
        """Record again after a graft ran on `x`; its output gets the stand-in of its input, and is returned."""
        value = self.grafted[id(graft)] = self._value(x)
        self._stand_ins[output] = (value, output._version)
        self._paused = False
        return output

    def close(self, function: str, inputs: Iterable[Tensor], output: Any) -> None:
        """Record the outputs of a module that no recorded operation computed, as computed by the module itself.

        Scripted modules and C++ extensions bypass `__torch_function__`.
        """
        sources = tuple(inputs)
        returned_inputs = {id(value) for value in sources}
        outputs = tuple(v for v in running.tensors(output) if id(v) not in self._produced | returned_inputs)
        if outputs and sources:
            self._add_event(function, sources, outputs, output)

    def _add_event(self, function: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], output: Any) -> None:
        self.events.append(Event(function, self.stack[-1] if self.stack else None, inputs, outputs, output))
        self._produced.update(map(id, outputs))

    def _described(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._value(value)
        if isinstance(value, Mapping):
            return {key: self._described(item) for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            items = [self._described(item) for item in value]
            return items if isinstance(value, list) else tuple(items)
        attributes = running.tensors(value)
        return TensorHolder(type(value).__name__, tuple(map(self._value, attributes))) if attributes else value

    def _value(self, tensor: Tensor) -> Tensor:
        entry = self._stand_ins.get(tensor)
        if entry is not None and entry[1] == tensor._version:
            value: Tensor = entry[0]
            return value
        value = self._new_value(tensor)
        if entry is not None:  # changed in place through a view of the same memory
            self._add_event("alias", (entry[0], *self._changed), (value,), value)
        return value

    def _new_value(self, tensor: Tensor) -> Tensor:
        value = describe(tensor)
        self._stand_ins[tensor] = (value, tensor._version)
        return value


def describe(tensor: Tensor) -> Tensor:
    """Return a meta tensor with the shape, strides and dtype of a tensor."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
