"""Isolate surgery from process-wide and module state, and restore that state afterwards.

This covers train and eval flags, random number generators, autocast, inference mode and compiled functions. Surgeries
in several threads run one after the other.
"""

from __future__ import annotations

import copy
import random
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, fx, nn

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=nn.Module)
_TABLES = ("_parameters", "_buffers", "_modules")
_lock = threading.RLock()  # random number generators and cuDNN flags are process-wide, so one thread operates at a time


@contextmanager
def isolated() -> Iterator[None]:
    """Disable the caller's autocast, inference mode and compiled functions until the context ends, under a lock."""
    with ExitStack() as stack:
        stack.enter_context(_lock)
        stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if "torch._dynamo" in sys.modules:  # compiled submodules run eagerly, so that they can be traced and hooked
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def isolates(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function to run isolated, and to restore the random number generators afterwards."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        with isolated(), preserved_rng():
            return function(*args, **kwargs)

    return wrapper


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Restore the random number generators of torch, Python and NumPy when the context ends."""
    devices = range(torch.cuda.device_count() if _cuda_in_use() else 0)
    numpy: Any = sys.modules.get("numpy")
    states = random.getstate(), numpy.random.get_state() if numpy else None
    try:
        with torch.random.fork_rng(devices=list(devices)):
            yield
    finally:
        random.setstate(states[0])
        if numpy:
            numpy.random.set_state(states[1])


def _cuda_in_use() -> bool:
    return bool(torch.cuda.is_initialized())  # type: ignore[no-untyped-call]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the random number generators of torch, Python and NumPy until the context ends."""
    numpy: Any = sys.modules.get("numpy")
    with preserved_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        if numpy:
            numpy.random.seed(seed)
        yield


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Set `model` to train or eval mode until the context ends.

    Afterwards, every module has its own flag again. Modules that override `train()`, such as layers that merge low-rank
    weights in eval mode, have all attributes and values restored. After eval mode, so have all buffers.
    """
    flags = [(module, module.training) for module in model.modules()]
    switching = any(flag != training for _, flag in flags)
    overridden = [(module, flag) for module, flag in flags if switching and type(module).train is not nn.Module.train]
    parts = {id(part): part for module, _ in overridden for part in module.modules()}
    states = [_State.of(part, values=not training) for part in parts.values()]
    buffers = [] if training else [buffer for buffer in model.buffers() if not buffer.is_inference()]
    values = [(buffer, buffer._version, buffer.clone()) for buffer in buffers]
    if switching:
        model.train(training)
    try:
        yield
    finally:
        for module, flag in overridden:
            module.train(flag)
        for state in states:
            state.restore()
        for module, flag in flags:
            module.training = flag
        for buffer, version, value in values:
            if buffer._version != version:
                buffer.data.copy_(value)


@dataclass(frozen=True)
class _State:
    """A snapshot of a module: its attributes, tables of tensors and children, and the values of its tensors."""

    module: nn.Module
    attributes: dict[str, Any]
    tables: dict[str, dict[str, Any]]
    values: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, module: nn.Module, *, values: bool) -> _State:
        attributes = dict(vars(module))
        tables = {name: dict(attributes[name]) for name in _TABLES if type(attributes.get(name)) is dict}
        tensors = [*module.parameters(recurse=False), *module.buffers(recurse=False)] if values else []
        return cls(module, attributes, tables, [(tensor, tensor.detach().clone()) for tensor in tensors])

    def restore(self) -> None:
        vars(self.module).clear()
        vars(self.module).update(self.attributes)
        for name, table in self.tables.items():
            self.attributes[name].clear()
            self.attributes[name].update(table)
        for tensor, value in self.values:
            if not torch.equal(tensor, value):
                tensor.data.copy_(value)


def copied(model: M) -> M:
    """Return a deep copy of a network, in which every module has the original's train or eval flag.

    Tensors with autograd history that are plain attributes, such as the weight that the deprecated `weight_norm`
    computes, are detached, because `copy.deepcopy` raises for them.
    """
    attributes = [item for module in model.modules() for item in vars(module).values() if isinstance(item, Tensor)]
    memo: dict[int, Any] = {id(t): t.detach().clone() for t in attributes if t.requires_grad and not t.is_leaf}
    copy_: M = copy.deepcopy(model, memo)
    graph_modules = [path for path, module in model.named_modules() if isinstance(module, fx.GraphModule)]
    for old, new in [(model.get_submodule(path), copy_.get_submodule(path)) for path in graph_modules]:
        if new.training != old.training:  # a deep copy of torchvision's DualGraphModule is in train mode
            new.train(old.training)
        for name, module in new.named_modules():
            module.training = old.get_submodule(name).training
    return copy_
