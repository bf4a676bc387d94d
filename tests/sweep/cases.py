"""What the sweep knows of one network: the model, what it takes, and what it gives in both modes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from attn_surgeon.surgery.running import Example, map_tensors, run_network, tensors

from .quick import settle

SEED = 7
_LARGEST_OUTPUT = 1e4
_AMPLE = 128  # at this size one place is the network's own doing, such as a class token alone


@dataclass(frozen=True)
class Reference:
    """What the original gives in eval mode, in train mode, and its buffers after training."""

    evaluated: Any
    trained: Any
    buffers: dict[str, Tensor]


@dataclass(frozen=True)
class Case:
    """A network with an example for each mode; `loss` where only its train mode gives gradients."""

    model: nn.Module
    example: Example
    train_example: Example
    reference: Reference
    loss: bool = False

    @property
    def meta(self) -> bool:
        """Say whether the network is on the meta device, and so has no values."""
        return is_meta(self.model)

    @property
    def shape(self) -> list[list[int]]:
        """Give the shapes of the example's tensors."""
        return [list(tensor.shape) for tensor in tensors(self.example)]

    @property
    def parameters(self) -> int:
        """Count the network's parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())


def is_meta(model: nn.Module) -> bool:
    """Say whether a network is on the meta device."""
    return next(model.parameters()).is_meta


def try_case(model: nn.Module, example: Example, train_example: Example, *, loss: bool = False) -> Case:
    """Run the network on an example for each mode, and note what it gives.

    Raises what the network raises, and ValueError where its last map has only one place because the image is small.
    Where activations vanish or explode, its norms' statistics are set first.
    """
    example, train_example = _beside(model, example), _beside(model, train_example)
    with _watched_features(model) as features, restored_buffers(model):
        evaluated = run_network(model, example)
    if _is_small(example) and _one_place(model, features):
        raise ValueError("its last map has only one place")
    if not is_meta(model) and not _healthy(evaluated):
        settle(model, lambda: run_network(model, train_example, training=True))
        evaluated = run_network(model, example)
    with restored_buffers(model):
        trained = run_network(model, train_example, training=True, seed=SEED)
        reference = Reference(evaluated, trained, copied_buffers(model))
    return Case(model, example, train_example, reference, loss)


def copied_buffers(model: nn.Module) -> dict[str, Tensor]:
    """Copy a network's buffers."""
    return {name: buffer.clone() for name, buffer in model.named_buffers()}


@contextmanager
def restored_buffers(model: nn.Module) -> Iterator[None]:
    """Put buffers back to what they were, such as BatchNorm's statistics."""
    before = copied_buffers(model)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                if name in before and buffer.shape == before[name].shape:
                    buffer.copy_(before[name])


def _beside(model: nn.Module, example: Example) -> Example:
    device = next(model.parameters()).device
    moved: Example = map_tensors(example, lambda tensor: tensor.to(device))
    return moved


def _healthy(output: Any) -> bool:
    found = [tensor for tensor in tensors(output) if tensor.is_floating_point() and tensor.numel()]
    return all(bool(out.isfinite().all()) and 0 < float(out.abs().max()) < _LARGEST_OUTPUT for out in found)


@contextmanager
def _watched_features(model: nn.Module) -> Iterator[list[Any]]:
    """Keep what timm's `forward_features` gives."""
    seen: list[Any] = []
    inner: Callable[..., Any] | None = getattr(model, "forward_features", None)
    if not callable(inner):
        yield seen
        return

    def watched(*args: Any, **kwargs: Any) -> Any:
        seen.append(inner(*args, **kwargs))
        return seen[-1]

    with mock.patch.object(model, "forward_features", watched):
        yield seen


def _is_small(example: Example) -> bool:
    return all(min(tensor.shape[-2:]) < _AMPLE for tensor in tensors(example))


def _one_place(model: nn.Module, features: list[Any]) -> bool:
    """Say whether the last features (N, L, C), (N, C, H, W) or (N, H, W, C) have one place."""
    last, channels = tensors(features)[-1:], getattr(model, "num_features", 0)
    return any(out.ndim > 2 and channels and out.numel() <= len(out) * channels for out in last)
