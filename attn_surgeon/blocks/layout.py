"""Let a block that takes (N, C, H, W) run where features are laid out otherwise."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Permuted(nn.Module):
    """Run a block on features whose channels come last: (N, H, W, C) or (N, D, H, W, C)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape and layout."""
        attended: Tensor = self.block(x.movedim(-1, 1))
        return attended.movedim(1, -1)


class Flat(nn.Module):
    """Run a block that only pools over positions where they are not two axes: (N, C), (N, C, L), (N, C, D, H, W)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        attended: Tensor = self.block(x.reshape(x.shape[0], x.shape[1], -1, 1))
        return attended.reshape(x.shape)


class Tokens(nn.Module):
    """Run a block on the spatial ones of (N, L, C) tokens, as a map; the prefix tokens pass untouched.

    `grid` is the map's (H, W) at the size the block was made for, None for blocks that tell no positions apart. At
    another size the map keeps the grid's aspect ratio; ValueError where no whole map does.
    """

    def __init__(self, block: nn.Module, prefix: int, grid: tuple[int, int] | None) -> None:
        super().__init__()
        self.block, self.prefix, self.grid = block, prefix, grid

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        spatial = x[:, self.prefix :]
        count, channels = spatial.shape[1:]
        maps = spatial.transpose(1, 2).reshape(-1, channels, *self._size(count))
        attended: Tensor = self.block(maps).flatten(2).transpose(1, 2)
        return torch.cat((x[:, : self.prefix], attended), 1) if self.prefix else attended

    def _size(self, count: int) -> tuple[int, int]:
        if self.grid is None:
            return count, 1
        height, width = self.grid
        if count != height * width:
            height = round(math.sqrt(count * height / width))
            width = count // max(height, 1)
        if height * width != count:
            raise ValueError(f"{count} tokens form no map with the aspect ratio {self.grid[0]}:{self.grid[1]}")
        return height, width
