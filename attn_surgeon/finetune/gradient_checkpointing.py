"""Gradient checkpointing for any network: the activations of its blocks are recomputed in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from attn_surgeon.errors import TrainingError, option
from attn_surgeon.surgery.rewrite.grafts import RESERVED


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """Recompute the activations of a network's blocks for a while; raise TrainingError where it has none."""
    blocks = repeated(model)
    if not blocks:
        raise TrainingError("the network has no blocks to recompute", option("grad_checkpointing"), "leave it out")
    before = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        vars(block)["forward"] = partial(_recomputed, block, block.forward)
    try:
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            vars(block).pop("forward")
            if forward is not None:
                vars(block)["forward"] = forward


def repeated(model: nn.Module) -> list[nn.Module]:
    """Return the outermost members of module lists that have children themselves, else such children."""
    return _members(model) or [child for child in model.children() if _has_children(child)]


def _members(module: nn.Module) -> list[nn.Module]:
    listed = isinstance(module, (nn.Sequential, nn.ModuleList))
    found: list[nn.Module] = []
    for child in module.children():
        if listed and not isinstance(child, (nn.Sequential, nn.ModuleList)):
            found += [child] if _has_children(child) else []
        else:
            found += _members(child)
    return found


def _has_children(module: nn.Module) -> bool:
    """Whether a module has children; grafts do not count, or an in-place ReLU with one would run twice."""
    return any(name != RESERVED for name, _ in module.named_children())


def _recomputed(block: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    contexts = lambda: (nullcontext(), _statistics_kept(block))  # noqa: E731 - torch expects a function
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _statistics_kept(block: nn.Module) -> AbstractContextManager[None]:
    return _kept([buffer for norm in block.modules() if isinstance(norm, _BatchNorm) for buffer in norm.buffers()])


@contextmanager
def _kept(buffers: list[torch.Tensor]) -> Iterator[None]:
    """Restore running statistics after the recomputation, which would update them a second time."""
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
