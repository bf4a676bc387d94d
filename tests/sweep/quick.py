"""Build networks quickly: random weights off a fixed pool, none of them all zeros, and none beyond a limit."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

_POOL = 1_000_003  # a prime, so that no two rows of a weight come out the same
_SMALL = 10_000


class TooLargeError(Exception):
    """Say that a network has more parameters than are built for real."""


def build(create: Callable[[], nn.Module], largest: int) -> nn.Module:
    """Build a network with random weights, in eval mode; on the meta device where it has too many parameters."""
    try:
        with _quiet(), _cheap_draws(), _limited(largest):
            model = create()
    except TooLargeError:
        with _quiet(), _no_draws():
            return create().to("meta").eval()
    _wake(model)
    return model.eval()


@contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def _limited(largest: int) -> Iterator[None]:
    """Stop building at the first parameter beyond the limit."""
    seen = 0

    def count(_: nn.Module, __: str, parameter: nn.Parameter) -> None:
        nonlocal seen
        seen += parameter.numel() if parameter is not None else 0
        if seen > largest:
            raise TooLargeError

    handle = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def _cheap_draws() -> Iterator[None]:
    """Let large tensors be filled off a pool of numbers drawn once."""
    generator = torch.Generator().manual_seed(0)
    uniform, normal = torch.rand(_POOL, generator=generator), torch.randn(_POOL, generator=generator)
    with _patched(
        uniform_=_filling(torch.Tensor.uniform_, lambda a, b: uniform * (b - a) + a),
        normal_=_filling(torch.Tensor.normal_, lambda mean, std: normal * std + mean),
        erfinv_=lambda self: self,  # truncated normals come out uniform, which will do
    ):
        yield


@contextmanager
def _no_draws() -> Iterator[None]:
    """Leave tensors untouched, so that their memory is never taken."""
    same = {
        name: (lambda self, *_, **__: self)
        for name in ("uniform_", "normal_", "erfinv_", "add_", "mul_", "div_", "clamp_")
    }
    with _patched(**same):
        yield


@contextmanager
def _patched(**methods: Callable[..., Tensor]) -> Iterator[None]:
    with ExitStack() as stack:
        for name, method in methods.items():
            stack.enter_context(mock.patch.object(torch.Tensor, name, method))
        yield


def _filling(exact: Callable[..., Tensor], scaled: Callable[[float, float], Tensor]) -> Callable[..., Tensor]:
    """Make a method that fills large tensors with the pool, over and over, and small ones exactly."""

    def fill(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if self.numel() < _SMALL or not self.is_contiguous() or len(args) < 2 or not self.dtype.is_floating_point:
            return exact(self, *args, **kwargs)
        flat, pool = self.detach().view(-1), scaled(float(args[0]), float(args[1])).to(self.dtype)
        whole = len(flat) // _POOL
        flat[: whole * _POOL].view(whole, _POOL).copy_(pool.expand(whole, _POOL))
        flat[whole * _POOL :].copy_(pool[: len(flat) - whole * _POOL])
        return self

    return fill


@torch.no_grad()
def _wake(model: nn.Module) -> None:
    """Give every parameter that is all zeros small random values, so that gradients pass everywhere."""
    for parameter in model.parameters():
        if parameter.numel() and not parameter.flatten()[0] and not parameter.any():
            parameter.normal_(0.0, 0.02)


@torch.no_grad()
def settle(model: nn.Module, forward: Callable[[], object]) -> None:
    """Take BatchNorm's statistics off one batch in train mode, so that activations keep their scale in eval mode."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    model.train()
    try:
        forward()
    finally:
        model.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
