"""A sequence of blocks that acts as one block."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class Stack(nn.Sequential):
    """Run blocks one after the other; blocks of two inputs all take the same second input."""

    def __init__(self, blocks: Sequence[nn.Module], takes_second: Sequence[bool]) -> None:
        super().__init__(*blocks)
        self.takes_second = tuple(takes_second)

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return features of the same shape."""
        for block, takes_second in zip(self, self.takes_second, strict=True):
            x = block(x, *others) if takes_second else block(x)
        return x
