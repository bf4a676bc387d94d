"""Run a block of two inputs on features and another tensor of the network, resized to the features' shape."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.layout import as_map


@dataclass(frozen=True)
class SecondInput:
    """The channels and layout of the second input of a block; `prefix` and `grid` are for tokens."""

    channels: int
    layout: str = "NCHW"
    prefix: int = 0
    grid: tuple[int, int] | None = None


class WithSecondInput(nn.Module):
    """Run a block on (N, C, H, W) features and on a second tensor, as a map of the same shape.

    Other channels go through a 1×1 convolution, another size is interpolated. Sequences and volumes are flattened to
    (N, C, L, 1) for the block.
    """

    def __init__(self, block: nn.Module, channels: int, other: SecondInput) -> None:
        super().__init__()
        self.block, self.other = block, other
        self.project = nn.Conv2d(other.channels, channels, 1, bias=False) if other.channels != channels else None

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return features shaped like x."""
        y = as_map(y, self.other.layout, self.other.prefix, self.other.grid).to(x.dtype)
        if x.ndim != 4:
            return self._flattened(x, y)
        if self.project is not None:  # before resizing, with which it commutes: the second input is mostly smaller
            y = self.project(y)
        if y.shape[2:] != x.shape[2:]:
            y = F.interpolate(y, size=x.shape[2:], mode="bilinear", align_corners=False)
        attended: Tensor = self.block(x, y)
        return attended

    def _flattened(self, x: Tensor, y: Tensor) -> Tensor:
        if self.project is not None:
            y = torch.unflatten(self.project(y.flatten(2).unsqueeze(3)).squeeze(3), 2, y.shape[2:])
        if y.shape[2:] != x.shape[2:]:
            mode = "linear" if x.ndim == 3 else "trilinear"
            y = F.interpolate(y, size=x.shape[2:], mode=mode, align_corners=False)
        attended: Tensor = self.block(x.flatten(2).unsqueeze(3), y.flatten(2).unsqueeze(3))
        return attended.reshape(x.shape)


class SameInputTwice(nn.Module):
    """Run a block of two inputs with one map as both inputs."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        attended: Tensor = self.block(x, x)
        return attended
