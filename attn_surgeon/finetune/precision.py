"""Run a network that is trained in mixed precision as its artefact will run, in full precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_ACCELERATES = ("forward", "_original_forward")


@contextmanager
def without_autocast(model: nn.Module) -> Iterator[None]:
    """Remove Accelerate's autocast for a while."""
    autocast_forward = vars(model).pop("forward", None)
    try:
        yield
    finally:
        if autocast_forward is not None:
            vars(model)["forward"] = autocast_forward


def remove_autocast(model: nn.Module) -> None:
    """Remove Accelerate's autocast for good."""
    for name in _ACCELERATES:
        vars(model).pop(name, None)
