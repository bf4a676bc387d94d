"""Let a block of two inputs run on a map and on any other tensor of the network, brought to the map's shape."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.layout import as_map


@dataclass(frozen=True)
class Second:
    """How the second input of a block is laid out; `prefix` and `grid` are for tokens."""

    channels: int
    layout: str = "NCHW"
    prefix: int = 0
    grid: tuple[int, int] | None = None


class Paired(nn.Module):
    """Run a block on (N, C, H, W) features and on a second tensor, as a map of the same shape.

    Other channels go through a 1×1 convolution, another size is interpolated.
    """

    def __init__(self, block: nn.Module, channels: int, other: Second) -> None:
        super().__init__()
        self.block, self.other = block, other
        self.project = nn.Conv2d(other.channels, channels, 1, bias=False) if other.channels != channels else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return features shaped like x."""
        y = as_map(y, self.other.layout, self.other.prefix, self.other.grid).to(x.dtype)
        if self.project is not None:  # before the size, with which it commutes: the second is mostly the coarser
            y = self.project(y)
        if y.shape[2:] != x.shape[2:]:
            y = F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)
        attended: Tensor = self.block(x, y)
        return attended


class Doubled(nn.Module):
    """Run a block of two inputs on one map, which is both."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        attended: Tensor = self.block(x, x)
        return attended
