"""Estimate the memory of modules and of forward passes on the meta device, before anything is allocated."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from attn_surgeon.errors import MemoryLimitError
from attn_surgeon.memory import available_memory, require_memory, size_of_tensors

MOST_TENSORS = 10_000  # in a network; the largest of timm and torchvision have about 3,000
_SMALL = 2**26  # bytes; the memory for a smaller input is not estimated
_LIVE = 3  # tensors of the largest size that exist at the same time: an input, an output, a workspace
_FACTORIES = frozenset(
    getattr(torch, name)
    for name in ("empty", "zeros", "ones", "full", "rand", "randn", "randint", "randperm", "arange", "linspace", "eye")
)


class _Budget(TorchFunctionMode):
    """Count the tensors that factory functions create, and their bytes, before they are allocated."""

    def __init__(self, what: str, hint: str, most: float) -> None:
        super().__init__()
        self.what, self.hint, self.most, self.free, self.count, self.bytes = what, hint, most, available_memory(), 0, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in _FACTORIES and "out" not in kwargs:
            self._spend(func(*args, **{**_without_device(kwargs), "device": "meta"}))
        return func(*args, **kwargs)

    def _spend(self, tensor: Tensor) -> None:
        self.count, self.bytes = self.count + 1, self.bytes + tensor.numel() * tensor.element_size()
        if self.bytes > self.free:
            require_memory(self.bytes, self.what, hint=self.hint)
        if self.count > self.most:
            raise MemoryLimitError(f"{self.what} has more than {self.most:,} tensors", "", self.hint)


def _without_device(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in ("device", "generator", "pin_memory")}


@contextmanager
def within_memory(what: str, hint: str, most: float = MOST_TENSORS) -> Iterator[None]:
    """Raise MemoryLimitError before modules are built that need more memory than there is, or have too many tensors.

    Args:
        what: what is built, for the error.
        hint: what to do next.
        most: how many tensors they may have.
    """
    with _Budget(what, hint, most), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Initializing zero-element tensors")  # of arguments that are zero
        yield


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Record the size in bytes of the largest tensor that an operator returns."""

    size = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        output = func(*args, **(kwargs or {}))
        for tensor in output if isinstance(output, (tuple, list)) else (output,):
            if isinstance(tensor, Tensor):
                self.size = max(self.size, tensor.numel() * tensor.element_size())
        return output


def require_runnable(model: nn.Module, shape: Sequence[int], what: str, hint: str) -> None:
    """Raise MemoryLimitError where a forward pass in eval mode needs more memory than the machine has.

    Args:
        model: the network; a copy runs on the meta device.
        shape: the shape (N, C, H, W) of the images.
        what: what is run, the subject of the error.
        hint: what to do next.
    """
    size = size_of_tensors([shape])
    if size > _SMALL:
        require_memory(_LIVE * size, what, hint=hint)
        require_memory(_LIVE * max(size, _largest_activation(model, shape)), what, hint=hint)


def _largest_activation(model: nn.Module, shape: Sequence[int]) -> int:
    """Return the bytes of the largest tensor of a forward pass; 0 where the network does not run on the meta device."""
    largest = _Largest()  # type: ignore[no-untyped-call]
    with suppress(Exception):  # of any kind, from code that reads values
        twin = _on_meta(model).eval()
        with largest, torch.no_grad():
            twin(torch.empty(*shape, device="meta"))
    return largest.size


def _on_meta(model: nn.Module) -> nn.Module:
    """Return a copy of a network on the meta device, made without copying any weight."""
    memo: dict[int, Any] = {}
    for tensor in itertools.chain(model.parameters(), model.buffers()):
        twin = torch.empty_like(tensor, device="meta")
        memo[id(tensor)] = nn.Parameter(twin, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else twin
    return copy.deepcopy(model, memo)
