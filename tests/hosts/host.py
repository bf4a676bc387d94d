"""A host: another tool, the network it is given, and where that network is grafted."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
from torch import nn

from .networks import BLOCKS, Placements, Tiny, image

Apply = Callable[[Any, Any], Any]
LIGHT = {"torch", "timm", "torchvision"}


def call(model: nn.Module, x: Any) -> Any:
    """Run a network on its example as it stands, without gradients."""
    with torch.no_grad():
        return model(*x) if isinstance(x, tuple) else model(x)


@dataclass(frozen=True)
class Host:
    """A tool as a function of a network and its example, which gives what is run in the network's place.

    `expected` gives the output that this must still have, from the network before the tool; `tolerance` is the largest
    difference, relative to what the grafts change, that the tool may make; `around` is open while a cell is judged.
    """

    name: str
    group: str
    apply: Apply
    build: Callable[[], nn.Module] = Tiny
    placements: Placements = BLOCKS
    needs: tuple[str, ...] = ()
    example: Callable[[], Any] = image
    expected: Callable[[Any, Any], Any] = call
    tolerance: float = 1e-3
    block: str = "cbam"
    around: Callable[[], AbstractContextManager[Any]] = nullcontext
    slow: bool = False

    @property
    def light(self) -> bool:
        """Say whether this is quickly done with the package's own dependencies."""
        return not self.slow and LIGHT.issuperset(self.needs)

    @property
    def missing(self) -> tuple[str, ...]:
        """Name the packages that are not installed."""
        return tuple(name for name in self.needs if find_spec(name) is None)
