"""Wrappers that run a block of (N, C, H, W) on features in other layouts."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class ChannelsLast(nn.Module):
    """Run a block on features whose channels come last: (N, H, W, C) or (N, D, H, W, C)."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return features of the same shape and layout; other inputs are passed to the block unchanged."""
        attended: Tensor = self.block(x.movedim(-1, 1), *others)
        return attended.movedim(1, -1)


class FlattenedPositions(nn.Module):
    """Run a block that needs no map on (N, C), (N, C, L) or (N, C, D, H, W), with all positions in one axis."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        attended: Tensor = self.block(x.reshape(x.shape[0], x.shape[1], -1, 1))
        return attended.reshape(x.shape)


class TokenSequence(nn.Module):
    """Run a block of (N, C, L) on (N, L, C) tokens that form no map; prefix tokens are returned unchanged."""

    def __init__(self, block: nn.Module, prefix: int) -> None:
        super().__init__()
        self.block, self.prefix = block, prefix

    def forward(self, x: Tensor) -> Tensor:
        """Return tokens of the same shape."""
        attended: Tensor = self.block(x[:, self.prefix :].transpose(1, 2)).transpose(1, 2)
        return torch.cat((x[:, : self.prefix], attended), 1) if self.prefix else attended


class TokenMap(nn.Module):
    """Run a block on (N, L, C) tokens as a map; prefix tokens are returned unchanged.

    `grid` is the map's (H, W) at the size the block was made for, None for blocks that only pool over positions. At
    another size the map keeps the grid's aspect ratio; ValueError is raised if no map has it.
    """

    def __init__(self, block: nn.Module, prefix: int, grid: tuple[int, int] | None) -> None:
        super().__init__()
        self.block, self.prefix, self.grid = block, prefix, grid

    def forward(self, x: Tensor, *others: Tensor) -> Tensor:
        """Return tokens of the same shape; other inputs are passed to the block unchanged."""
        maps = token_map(x[:, self.prefix :], self.grid)
        attended: Tensor = self.block(maps, *others).flatten(2).transpose(1, 2)
        return torch.cat((x[:, : self.prefix], attended), 1) if self.prefix else attended


def as_map(x: Tensor, layout: str, prefix: int = 0, grid: tuple[int, int] | None = None) -> Tensor:
    """Return features as (N, C, H, W), without their prefix tokens; sequences and volumes as (N, C, ...)."""
    if layout == "NLC":
        return token_map(x[:, prefix:], grid)
    return x.movedim(-1, 1) if layout in ("NHWC", "NDHWC") else x


def token_map(tokens: Tensor, grid: tuple[int, int] | None) -> Tensor:
    """Return spatial tokens (N, L, C) as (N, C, H, W) of the grid's aspect ratio, or (N, C, L, 1) without a grid."""
    count, channels = tokens.shape[1:]
    return tokens.transpose(1, 2).reshape(-1, channels, *_size(count, grid))


def _size(count: int, grid: tuple[int, int] | None) -> tuple[int, int]:
    if grid is None:
        return count, 1
    height, width = grid
    if count != height * width:
        height = round(math.sqrt(count * height / width))
        width = count // max(height, 1)
    if height * width != count:
        raise ValueError(f"{count} tokens form no map with the aspect ratio {grid[0]}:{grid[1]}")
    return height, width
