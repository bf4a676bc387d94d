"""Remove Accelerate's autocast, so that a network trained in mixed precision is evaluated in full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_ACCELERATES = ("forward", "_original_forward")


@contextmanager
def without_autocast(model: nn.Module) -> Iterator[None]:
    """Remove Accelerate's autocast within the context."""
    autocast_forward = vars(model).pop("forward", None)
    try:
        yield
    finally:
        if autocast_forward is not None:
            vars(model)["forward"] = autocast_forward


def remove_autocast(model: nn.Module) -> None:
    """Remove Accelerate's autocast permanently."""
    for name in _ACCELERATES:
        vars(model).pop(name, None)
