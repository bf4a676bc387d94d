"""Observe one forward pass by hooks and a `TorchFunctionMode`: module calls, their callers, and every operation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attn_surgeon.surgery import running
from attn_surgeon.surgery.observe.recorder import Event, Recorder
from attn_surgeon.surgery.rewrite.operated_modules import grafts_in


@dataclass(frozen=True)
class Call:
    """One call of one module: its arguments and output, with meta tensors in place of activations.

    `index` counts the calls of a run in the order in which they start; `caller` is the index of the calling module's.
    """

    index: int
    path: str
    caller: int | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any


@dataclass(frozen=True)
class Observation:
    """The recording of one forward pass, with meta tensors in place of activations.

    Args:
        calls: the module calls, by module path.
        callees: the module calls that a call made, by its index.
        events: the operations on tensors, in execution order.
        inputs: the tensors of the example.
        output: the network's output.
        grafted: the input of each graft, by the `id` of its block.
        newer: the value that a tensor had after it was changed in place, by the `id` of the value before.
        model: the observed network.
        example: the example it ran on.
    """

    calls: Mapping[str, tuple[Call, ...]]
    callees: Mapping[int, tuple[Call, ...]]
    events: tuple[Event, ...]
    inputs: tuple[Tensor, ...]
    output: Any
    grafted: Mapping[int, Tensor]
    newer: Mapping[int, Tensor]
    model: nn.Module
    example: running.Example

    def module(self, path: str) -> nn.Module:
        """Return the module that was called under `path`."""
        return self._modules[path]

    @cached_property
    def _modules(self) -> Mapping[str, nn.Module]:
        return dict(self.model.named_modules(remove_duplicate=False))

    def versions(self, value: Tensor) -> Iterator[Tensor]:
        """Yield a value and the values that the same tensor had after each in-place operation."""
        version: Tensor | None = value
        while version is not None:
            yield version
            version = self.newer.get(id(version))

    def caller_path(self, call: Call) -> str | None:
        """Return the path of the module that made `call`; None for the call of the network itself."""
        return None if call.caller is None else self.by_index[call.caller].path

    @cached_property
    def by_index(self) -> Mapping[int, Call]:
        """The calls by index."""
        return {call.index: call for calls in self.calls.values() for call in calls}

    @cached_property
    def events_in(self) -> Mapping[int, tuple[Event, ...]]:
        """The events in the forward of each call, without those in the modules that it called."""
        by_call: dict[int, list[Event]] = defaultdict(list)
        for event in self.events:
            if event.call is not None:
                by_call[event.call].append(event)
        return {index: tuple(events) for index, events in by_call.items()}


@dataclass
class _HookRecorder:
    """Record module calls from forward hooks; `recorder.stack` holds the indices of the calls under way."""

    recorder: Recorder = field(default_factory=Recorder)
    started: list[tuple[Any, ...]] = field(default_factory=list)
    finished: list[Call] = field(default_factory=list)

    def enter(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self.recorder.stack.append(len(self.started))
        self.started.append(self.recorder.describe((args, dict(kwargs))))

    def leave(self, path: str, function: str, output: Any) -> None:
        described = self.recorder.describe(output)
        index = self.recorder.stack.pop()
        args, kwargs = self.started[index]
        self.recorder.close(function, running.tensors((args, kwargs)), described)
        caller = self.recorder.stack[-1] if self.recorder.stack else None
        self.finished.append(Call(index, path, caller, args, kwargs, described))


def observe(model: nn.Module, example: running.Example) -> Observation:
    """Run a network once in eval mode and return the recording of every module call and operation on tensors."""
    hooks, example = _HookRecorder(), running.without_inference_tensors(example)
    inputs = tuple(running.tensors(hooks.recorder.describe(example)))
    _run(model, example, hooks)
    by_path: dict[str, list[Call]] = defaultdict(list)
    by_caller: dict[int, list[Call]] = defaultdict(list)
    for call in sorted(hooks.finished, key=lambda call: call.index):
        by_path[call.path].append(call)
        if call.caller is not None:
            by_caller[call.caller].append(call)
    return Observation(
        calls={path: tuple(calls) for path, calls in by_path.items()},
        callees={index: tuple(calls) for index, calls in by_caller.items()},
        events=tuple(hooks.recorder.events),
        inputs=inputs,
        output=by_path[""][0].output,
        grafted=hooks.recorder.grafted,
        newer=hooks.recorder.newer,
        model=model,
        example=example,
    )


def run_recorded(model: nn.Module, example: running.Example, recorder: Recorder) -> Any:
    """Run a network once under another recorder, which records the same events as `observe`; return the output."""
    recorder.describe(example)
    return _run(model, example, _HookRecorder(recorder))


def _run(model: nn.Module, example: running.Example, hooks: _HookRecorder) -> Any:
    with _scripted_wrapped(model), running.hooked(_hooks(model, hooks)):
        return running.run_network(model, example, under=hooks.recorder)


class _Scripted(nn.Module):
    """A wrapper around a scripted module, because hooks of a ScriptModule do not get keyword arguments."""

    def __init__(self, scripted: nn.Module) -> None:
        super().__init__()
        self.call = scripted.__call__  # not a child: named_modules() must not descend into it

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


@contextmanager
def _scripted_wrapped(model: nn.Module) -> Iterator[None]:
    """Wrap the scripted modules of a network until the context ends."""
    scripted = [
        (module, name, child)
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)
        for name, child in module._modules.items()
        if isinstance(child, torch.jit.ScriptModule)
    ]
    for module, name, child in scripted:
        module._modules[name] = _Scripted(child)
    try:
        yield
    finally:
        for module, name, child in scripted:
            module._modules[name] = child


def _hooks(model: nn.Module, hooks: _HookRecorder) -> Iterator[RemovableHandle]:
    grafts = [child for module in model.modules() for child in grafts_in(module)]
    hidden = {id(part) for graft in grafts for part in graft.modules()}
    for path, module in model.named_modules():
        if id(module) not in hidden:
            yield from _call_hooks(path, module, hooks)
    for graft in grafts:
        yield from _graft_hooks(graft, hooks.recorder)


def _call_hooks(path: str, module: nn.Module, hooks: _HookRecorder) -> list[RemovableHandle]:
    name = type(module).__name__
    return [
        module.register_forward_pre_hook(
            running.in_this_thread(lambda _, args, kwargs: hooks.enter(args, kwargs)), prepend=True, with_kwargs=True
        ),
        module.register_forward_hook(running.in_this_thread(lambda _, __, output: hooks.leave(path, name, output))),
    ]


def _graft_hooks(graft: nn.Module, recorder: Recorder) -> list[RemovableHandle]:
    """Record a graft as if it returned its input, so that an operated network is observed as its original.

    Nothing inside a block is recorded: the pre-hook pauses the recorder, the forward hook resumes it.
    """
    return [
        graft.register_forward_pre_hook(running.in_this_thread(lambda _, __: recorder.pause()), prepend=True),
        graft.register_forward_hook(
            running.in_this_thread(lambda block, args, output: recorder.resume(block, args[0], output))
        ),
    ]
