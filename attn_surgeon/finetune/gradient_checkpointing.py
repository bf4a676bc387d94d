"""Gradient checkpointing for any network: its blocks forget their features and compute them again on the way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from attn_surgeon.finetune.settings import TrainingError
from attn_surgeon.surgery.rewrite.grafts import RESERVED


@contextmanager
def checkpointed(model: nn.Module) -> Iterator[None]:
    """Let a network's blocks be computed twice for a while; raise TrainingError where it has none."""
    blocks = repeated(model)
    if not blocks:
        raise TrainingError("the network has no blocks to compute twice", "--grad-checkpointing", "leave it out")
    before = [vars(block).get("forward") for block in blocks]
    for block in blocks:
        vars(block)["forward"] = partial(_twice, block, block.forward)
    try:
        yield
    finally:
        for block, forward in zip(blocks, before, strict=True):
            vars(block).pop("forward")
            if forward is not None:
                vars(block)["forward"] = forward


def repeated(model: nn.Module) -> list[nn.Module]:
    """Find the outermost members of lists of modules that have parts themselves, else the larger children."""
    return _members(model) or [child for child in model.children() if _has_parts(child)]


def _members(module: nn.Module) -> list[nn.Module]:
    listed = isinstance(module, (nn.Sequential, nn.ModuleList))
    found: list[nn.Module] = []
    for child in module.children():
        if listed and not isinstance(child, (nn.Sequential, nn.ModuleList)):
            found += [child] if _has_parts(child) else []
        else:
            found += _members(child)
    return found


def _has_parts(module: nn.Module) -> bool:
    """Tell whether a module has parts of its own; a graft is none, or a ReLU that works in place would run twice."""
    return any(name != RESERVED for name, _ in module.named_children())


def _twice(block: nn.Module, forward: Any, *args: Any, **kwargs: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    contexts = lambda: (nullcontext(), _statistics_kept(block))  # noqa: E731 - torch wants a function
    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


def _statistics_kept(block: nn.Module) -> AbstractContextManager[None]:
    return _kept([buffer for norm in block.modules() if isinstance(norm, _BatchNorm) for buffer in norm.buffers()])


@contextmanager
def _kept(buffers: list[torch.Tensor]) -> Iterator[None]:
    """Undo what the second computing does to running statistics, which have seen the batch already."""
    before = [buffer.clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
