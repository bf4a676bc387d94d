"""One example run, watched: which module called which, with what, and in what order."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.graph import running


@dataclass(frozen=True)
class Call:
    """One call of one module; tensors are kept as meta tensors, so no activation outlives the run."""

    index: int
    path: str
    caller: int | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any


@dataclass(frozen=True)
class Observation:
    """All calls of one run, by module path and by calling call, with the network's real output."""

    calls: Mapping[str, tuple[Call, ...]]
    callees: Mapping[int, tuple[Call, ...]]
    output: Any
    model: nn.Module
    example: running.Example

    def module(self, path: str) -> nn.Module:
        """Give the module that was called under `path`."""
        return self.model.get_submodule(path)

    def caller_path(self, call: Call) -> str | None:
        """Name the module that made `call`; None for the network's own."""
        return None if call.caller is None else self._paths[call.caller]

    @cached_property
    def _paths(self) -> Mapping[int, str]:
        return {call.index: path for path, calls in self.calls.items() for call in calls}


@dataclass
class _Watch:
    """What the hooks note down while the network runs."""

    stack: list[int] = field(default_factory=list)
    started: int = 0
    finished: list[Call] = field(default_factory=list)

    def enter(self) -> None:
        self.stack.append(self.started)
        self.started += 1

    def leave(self, path: str, args: tuple[Any, ...], kwargs: Mapping[str, Any], output: Any) -> None:
        index = self.stack.pop()
        caller = self.stack[-1] if self.stack else None
        described = (running.map_tensors(value, describe) for value in (args, kwargs, output))
        self.finished.append(Call(index, path, caller, *described))


def observe(model: nn.Module, example: running.Example) -> Observation:
    """Run the model once in eval mode and record every module call."""
    watch = _Watch()
    with _hooks(model, watch):
        output = running.run(model, example)
    by_path: dict[str, list[Call]] = defaultdict(list)
    by_caller: dict[int, list[Call]] = defaultdict(list)
    for call in sorted(watch.finished, key=lambda call: call.index):
        by_path[call.path].append(call)
        if call.caller is not None:
            by_caller[call.caller].append(call)
    return Observation(
        {path: tuple(calls) for path, calls in by_path.items()},
        {index: tuple(calls) for index, calls in by_caller.items()},
        output,
        model,
        example,
    )


@contextmanager
def _hooks(model: nn.Module, watch: _Watch) -> Iterator[None]:
    handles = []
    try:
        for path, module in model.named_modules():
            handles += [
                module.register_forward_pre_hook(lambda *_: watch.enter(), prepend=True),
                module.register_forward_hook(
                    lambda _, args, kwargs, output, path=path: watch.leave(path, args, kwargs, output),
                    with_kwargs=True,
                ),
            ]
        yield
    finally:
        for handle in handles:
            handle.remove()


def describe(tensor: Tensor) -> Tensor:
    """Keep a tensor's shape, strides and dtype without its storage."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="meta")
