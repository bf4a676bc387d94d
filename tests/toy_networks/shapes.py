"""Features that are no plain images: volumes, videos, sequences, tokens of images that patches do not divide."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .layouts import TokenBlock


class Volumes(nn.Module):
    """Take volumes or videos (N, C, T, H, W)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm = nn.Conv3d(3, 8, 3, (1, 2, 2), 1), nn.BatchNorm3d(8)
        self.conv, self.fc = nn.Conv3d(8, 8, 3, 1, 1), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.stem(x)))
        x = x + self.conv(x)
        return self.fc(x.mean((2, 3, 4)))  # type: ignore[no-any-return]


class Sequences(nn.Module):
    """Take sequences (N, C, L)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.fc = nn.Conv1d(3, 8, 3, 1, 1), nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(torch.relu(self.norm(self.stem(x))).mean(2))  # type: ignore[no-any-return]


class Overlapping(nn.Module):
    """Cut an image into overlapping patches: their grid is no whole fraction of the image."""

    def __init__(self, prefix: int = 1) -> None:
        super().__init__()
        self.embed, self.block = nn.Conv2d(3, 8, 16, 8), TokenBlock()
        self.prefix = nn.Parameter(torch.randn(1, prefix, 8))

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        return self.block(torch.cat((self.prefix.expand(x.shape[0], -1, -1), x), 1))  # type: ignore[no-any-return]


class Heads(nn.Module):
    """Split tokens into heads (N, heads, L, C / heads), each with a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.out = nn.Conv2d(3, 12, 8, 8), nn.Identity(), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2)
        heads = self.norm(x.reshape(x.shape[0], -1, 2, 6).transpose(1, 2))
        return self.out(heads.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]
