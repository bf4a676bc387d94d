"""What a family's file tells of its blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = dict[str, Array]


@dataclass(frozen=True)
class Case:
    """A block with options, and its formula.

    `formula(x, w, factor)`, or `formula(x, y, w, factor)` of two inputs, takes (N, C, H, W) and the state dict as
    arrays; `factor` is what a sigmoid gate is multiplied by, 1 as published and 2 in the identity form. A blend
    x + γ(f − x) is added where the state dict holds its γ.
    """

    block: str
    formula: Callable[..., Array]
    options: Mapping[str, Any] = field(default_factory=dict)
    channels: tuple[int, ...] = (8, 12, 13)
    size: tuple[int, int] = (7, 5)

    def __str__(self) -> str:
        """Name the case."""
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.block}({options})"


@dataclass(frozen=True)
class Count:
    """How many parameters a published network's blocks have: `features` are their channels, each as often as there."""

    block: str
    expected: int
    source: str
    features: tuple[int, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    suffix: str = ""

    def __str__(self) -> str:
        """Name the count."""
        return f"{self.block}: {self.source}"
