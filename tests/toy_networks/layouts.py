"""Features in other layouts, and one input size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class Tokens(nn.Module):
    """Turn an image into class tokens and patches, as vision transformers do."""

    def __init__(self, prefix: int, patch: int = 4) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, patch, patch)
        self.prefix = nn.Parameter(torch.randn(1, prefix, 8))
        self.block = TokenBlock()

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.prefix.expand(x.shape[0], -1, -1), x), 1)
        return self.block(x)  # type: ignore[no-any-return]


class TokenBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc(self.norm(x))  # type: ignore[no-any-return]


class ChannelsLast(nn.Module):
    """Keep channels in the last axis, as Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.block = nn.Conv2d(3, 8, 4, 4), TokenBlock()

    def forward(self, x: Tensor) -> Any:
        return self.block(self.embed(x).permute(0, 2, 3, 1)).mean((1, 2))


class OneSize(nn.Module):
    """Take one input size only."""

    def __init__(self, inner: nn.Module, size: int) -> None:
        super().__init__()
        self.inner, self.size = inner, size

    def forward(self, x: Tensor) -> Any:
        if x.shape[-1] != self.size:
            raise ValueError("this network takes one size")
        return self.inner(x)
