"""Every value of one run: which operation made it, out of what. Tensors are stood for by meta tensors.

One stand-in is one value: a tensor changed in place is another value afterwards, and a module that passes its input
on gives back the same one. So two places carry the same value exactly when their stand-ins are the same object.
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
    """One operation on values, in the forward of the module whose call has the index `call`.

    `output` is the operation's own result; `outputs` also has what it changed in place.
    """

    function: str
    call: int | None
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    output: Any


@dataclass(frozen=True, eq=False)
class TensorHolder:
    """A stand-in for an object of the network's own that has tensors."""

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
        self._known: MutableMapping[Tensor, tuple[Tensor, int]] = WeakIdKeyDictionary()
        self._changed: tuple[Tensor, ...] = ()
        self._made: set[int] = set()
        self._paused = False

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if self._paused:
            return func(*args, **kwargs)
        given = running.tensors((args, kwargs))
        inputs = [self._value(tensor) for tensor in given]
        versions = [tensor._version for tensor in given]
        output = func(*args, **kwargs)
        changed = {
            id(old): tensor
            for old, tensor, version in zip(inputs, given, versions, strict=True)
            if tensor._version != version
        }
        self._note(getattr(func, "__name__", type(func).__name__), inputs, changed, output)
        return output

    def _note(self, function: str, inputs: list[Tensor], changed: dict[int, Tensor], output: Any) -> None:
        """Record an operation; `changed` are the tensors that it wrote to, by the identity of their stand-ins."""
        if not changed and not any(True for _ in running.tensors(output)):
            return
        new = [self._renewed(tensor) for tensor in changed.values()]
        self.newer.update(zip(changed, new, strict=True))
        described = self._described(output)
        made = dict.fromkeys((*new, *running.tensors(described)))
        fresh = tuple(value for value in made if not any(value is old for old in inputs))
        if new:
            self._changed = tuple(new)
        if fresh:
            self._enter(function, tuple(inputs), fresh, described)

    def describe(self, value: Any) -> Any:
        """Return nested values and objects with stand-ins for their tensors."""
        self._paused = True
        try:
            return self._described(value)
        finally:
            self._paused = False

    def stand_in(self, tensor: Tensor) -> Tensor | None:
        """Return the stand-in of a tensor; None for one not yet met."""
        known = self._known.get(tensor)
        return None if known is None else known[0]

    def pause(self) -> None:
        """Stop recording, until `pass_on`."""
        self._paused = True

    def pass_on(self, graft: nn.Module, given: Tensor, output: Tensor) -> Tensor:
        """Record again, and return what a graft made, which stands for the same value as what it was given."""
        value = self.grafted[id(graft)] = self._value(given)
        self._known[output] = (value, output._version)
        self._paused = False
        return output

    def close(self, function: str, inputs: Iterable[Tensor], output: Any) -> None:
        """Record a module's outputs that no operation was seen to compute, as computed by the module."""
        sources = tuple(inputs)
        passed = {id(value) for value in sources}
        made = tuple(value for value in running.tensors(output) if id(value) not in self._made | passed)
        if made and sources:
            self._enter(function, sources, made, output)

    def _enter(self, function: str, inputs: tuple[Tensor, ...], outputs: tuple[Tensor, ...], output: Any) -> None:
        self.events.append(Event(function, self.stack[-1] if self.stack else None, inputs, outputs, output))
        self._made.update(map(id, outputs))

    def _described(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self._value(value)
        if isinstance(value, Mapping):
            return {key: self._described(item) for key, item in value.items()}
        if isinstance(value, (tuple, list)):
            items = [self._described(item) for item in value]
            return items if isinstance(value, list) else tuple(items)
        held = running.tensors(value)
        return TensorHolder(type(value).__name__, tuple(map(self._value, held))) if held else value

    def _value(self, tensor: Tensor) -> Tensor:
        known = self._known.get(tensor)
        if known is not None and known[1] == tensor._version:
            value: Tensor = known[0]
            return value
        value = self._renewed(tensor)
        if known is not None:  # changed through another name for the same memory
            self._enter("alias", (known[0], *self._changed), (value,), value)
        return value

    def _renewed(self, tensor: Tensor) -> Tensor:
        value = describe(tensor)
        self._known[tensor] = (value, tensor._version)
        return value


def describe(tensor: Tensor) -> Tensor:
    """Return a meta tensor with a tensor's shape, strides and dtype."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
