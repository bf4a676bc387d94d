"""One observed run: which module called which, with what, in what order, and how each value was computed."""

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
from attn_surgeon.surgery.rewrite.operated import grafts_in


@dataclass(frozen=True)
class Call:
    """One call of one module; meta tensors stand for tensors, so no activation outlives the run."""

    index: int
    path: str
    caller: int | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    output: Any


@dataclass(frozen=True)
class Observation:
    """All calls of one run, by module path and by calling call, and all its events.

    `inputs` stand for the example's tensors, `output` for what the network gave back, `grafted` for what flowed into
    each graft, by the block's identity. `newer` tells what became of a value that was changed in place, by its
    identity.
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
        """Yield a value, and what it became by each change in place."""
        found: Tensor | None = value
        while found is not None:
            yield found
            found = self.newer.get(id(found))

    def caller_path(self, call: Call) -> str | None:
        """Return the path of the module that made `call`; None for the network's own."""
        return None if call.caller is None else self.by_index[call.caller].path

    @cached_property
    def by_index(self) -> Mapping[int, Call]:
        """The calls by index."""
        return {call.index: call for calls in self.calls.values() for call in calls}

    @cached_property
    def events_in(self) -> Mapping[int, tuple[Event, ...]]:
        """The events in each call's own forward."""
        own: dict[int, list[Event]] = defaultdict(list)
        for event in self.events:
            if event.call is not None:
                own[event.call].append(event)
        return {index: tuple(events) for index, events in own.items()}


@dataclass
class _Watch:
    """What the hooks record while the network runs."""

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
    """Run the model once in eval mode and record every module call and every operation on tensors."""
    watch, example = _Watch(), running.usable(example)
    inputs = tuple(running.tensors(watch.recorder.describe(example)))
    _run(model, example, watch)
    by_path: dict[str, list[Call]] = defaultdict(list)
    by_caller: dict[int, list[Call]] = defaultdict(list)
    for call in sorted(watch.finished, key=lambda call: call.index):
        by_path[call.path].append(call)
        if call.caller is not None:
            by_caller[call.caller].append(call)
    return Observation(
        {path: tuple(calls) for path, calls in by_path.items()},
        {index: tuple(calls) for index, calls in by_caller.items()},
        tuple(watch.recorder.events),
        inputs,
        by_path[""][0].output,
        watch.recorder.grafted,
        watch.recorder.newer,
        model,
        example,
    )


def run_recorded(model: nn.Module, example: running.Example, recorder: Recorder) -> Any:
    """Run the model once under another recorder, event for event as observed, and return its output."""
    recorder.describe(example)
    return _run(model, example, _Watch(recorder))


def _run(model: nn.Module, example: running.Example, watch: _Watch) -> Any:
    with _scripted_shown(model), running.hooked(_hooks(model, watch)):
        return running.run_network(model, example, under=watch.recorder)


class _Scripted(nn.Module):
    """A stand-in for a scripted module, whose hooks do not get keyword arguments."""

    def __init__(self, scripted: nn.Module) -> None:
        super().__init__()
        self.call = scripted.__call__  # no child, for it is not looked into

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.call(*args, **kwargs)


@contextmanager
def _scripted_shown(model: nn.Module) -> Iterator[None]:
    """Replace the scripted modules of a network by stand-ins until the context ends."""
    kept = [
        (module, name, child)
        for module in model.modules()
        if not isinstance(module, torch.jit.ScriptModule)
        for name, child in module._modules.items()
        if isinstance(child, torch.jit.ScriptModule)
    ]
    for module, name, child in kept:
        module._modules[name] = _Scripted(child)
    try:
        yield
    finally:
        for module, name, child in kept:
            module._modules[name] = child


def _hooks(model: nn.Module, watch: _Watch) -> Iterator[RemovableHandle]:
    grafts = [child for module in model.modules() for child in grafts_in(module)]
    hidden = {id(part) for graft in grafts for part in graft.modules()}
    for path, module in model.named_modules():
        if id(module) not in hidden:
            yield from _watched(path, module, watch)
    for graft in grafts:
        yield from _passed(graft, watch.recorder)


def _watched(path: str, module: nn.Module, watch: _Watch) -> list[RemovableHandle]:
    name = type(module).__name__
    return [
        module.register_forward_pre_hook(
            running.here(lambda _, args, kwargs: watch.enter(args, kwargs)), prepend=True, with_kwargs=True
        ),
        module.register_forward_hook(running.here(lambda _, __, output: watch.leave(path, name, output))),
    ]


def _passed(graft: nn.Module, recorder: Recorder) -> list[RemovableHandle]:
    """Observe a graft as returning its input, so that an operated network is observed as its original."""
    return [
        graft.register_forward_pre_hook(running.here(lambda _, __: recorder.pause()), prepend=True),
        graft.register_forward_hook(running.here(lambda own, args, output: recorder.pass_on(own, args[0], output))),
    ]
