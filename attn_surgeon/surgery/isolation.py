"""What surgery shares with the rest of the process, and how it is left as it was found.

Modes of modules, random streams, autocast and inference mode, compiled functions: the caller's own stay as they are,
and surgeries in several threads take turns.
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
# Random streams and cuDNN's flags belong to the process, so only one thread operates at a time.
_turn = threading.RLock()


@contextmanager
def isolated() -> Iterator[None]:
    """Run without the caller's autocast, inference mode and compiled functions, and one thread at a time."""
    with ExitStack() as stack:
        stack.enter_context(_turn)
        stack.enter_context(torch.inference_mode(False))
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        if "torch._dynamo" in sys.modules:  # a part that the user has compiled runs as written
            stack.enter_context(torch.compiler.set_stance("force_eager"))
        yield


def isolates(function: Callable[P, R]) -> Callable[P, R]:
    """Run a function isolated, with the caller's random streams as they were afterwards."""

    @wraps(function)
    def alone(*args: P.args, **kwargs: P.kwargs) -> R:
        with isolated(), streams_kept():
            return function(*args, **kwargs)

    return alone


@contextmanager
def streams_kept() -> Iterator[None]:
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
    """Fix the random streams that a network can draw from; the caller's are as before afterwards."""
    numpy: Any = sys.modules.get("numpy")
    with streams_kept():
        torch.manual_seed(seed)
        random.seed(seed)
        if numpy:
            numpy.random.seed(seed)
        yield


@contextmanager
def mode(model: nn.Module, *, training: bool) -> Iterator[None]:
    """Set `model` to train or eval mode until the context ends.

    Every module gets its own flag back afterwards, and so do those whose `train()` does more than set it, such as
    layers that merge low-rank weights, with all that it changed. After eval mode, buffers have the values they had.
    """
    flags = [(module, module.training) for module in model.modules()]
    switching = any(flag != training for _, flag in flags)
    changed = [(module, flag) for module, flag in flags if switching and type(module).train is not nn.Module.train]
    parts = {id(part): part for module, _ in changed for part in module.modules()}
    kept = [_State.of(part, values=not training) for part in parts.values()]
    buffers = [] if training else [buffer for buffer in model.buffers() if not buffer.is_inference()]
    values = [(buffer, buffer._version, buffer.clone()) for buffer in buffers]
    if switching:
        model.train(training)
    try:
        yield
    finally:
        for module, flag in changed:
            module.train(flag)
        for state in kept:
            state.put_back()
        for module, flag in flags:
            module.training = flag
        for buffer, version, value in values:
            if buffer._version != version:
                buffer.data.copy_(value)


@dataclass(frozen=True)
class _State:
    """All that a module's own methods may change of it: its attributes, and the values of its tensors."""

    module: nn.Module
    attributes: dict[str, Any]
    tables: dict[str, dict[str, Any]]
    values: list[tuple[Tensor, Tensor]]

    @classmethod
    def of(cls, module: nn.Module, *, values: bool) -> _State:
        attributes = dict(vars(module))
        tables = {name: dict(attributes[name]) for name in _TABLES if type(attributes.get(name)) is dict}
        held = [*module.parameters(recurse=False), *module.buffers(recurse=False)] if values else []
        return cls(module, attributes, tables, [(tensor, tensor.detach().clone()) for tensor in held])

    def put_back(self) -> None:
        vars(self.module).clear()
        vars(self.module).update(self.attributes)
        for name, table in self.tables.items():
            self.attributes[name].clear()
            self.attributes[name].update(table)
        for tensor, value in self.values:
            if not torch.equal(tensor, value):
                tensor.data.copy_(value)


def copied(model: M) -> M:
    """Return a deep copy of a network.

    Tensors that are plain attributes and were computed, such as the weight that the older weight_norm leaves on a
    module, are copied without their history, for torch copies none that has some.
    """
    computed = [tensor for module in model.modules() for tensor in vars(module).values() if isinstance(tensor, Tensor)]
    memo: dict[int, Any] = {id(t): t.detach().clone() for t in computed if t.requires_grad and not t.is_leaf}
    made: M = copy.deepcopy(model, memo)
    graphs = [path for path, module in model.named_modules() if isinstance(module, fx.GraphModule)]
    for old, new in [(model.get_submodule(path), made.get_submodule(path)) for path in graphs]:
        if new.training != old.training:  # torchvision's pair of graphs is always copied in train mode
            new.train(old.training)
        for name, module in new.named_modules():
            module.training = old.get_submodule(name).training
    return made
