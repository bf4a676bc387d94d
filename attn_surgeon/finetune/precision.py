"""Run a network that trains under mixed precision as its artefact will run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_ACCELERATES = ("forward", "_original_forward")


@contextmanager
def in_full_precision(model: nn.Module) -> Iterator[None]:
    """Take off Accelerate's cast for a while."""
    cast_forward = vars(model).pop("forward", None)
    try:
        yield
    finally:
        if cast_forward is not None:
            vars(model)["forward"] = cast_forward


def take_off_casts(model: nn.Module) -> None:
    """Take off Accelerate's cast for good."""
    for name in _ACCELERATES:
        vars(model).pop(name, None)
