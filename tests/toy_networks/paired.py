"""Forwards in which a second tensor is at hand, or not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .basics import WIDTH, conv


class Guided(nn.Module):
    """Make a wide map first, a plain one then, and one more from both."""

    def __init__(self) -> None:
        super().__init__()
        self.wide, self.a, self.b = nn.Conv2d(WIDTH, 6, 3, 2, 1), conv(), conv()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        wide = self.wide(x)
        y = self.a(x)
        if self.training:
            y = F.dropout(y + 1, 0.5, True)
        return self.b(y), wide


class Joined(nn.Module):
    """Cat a map with a coarser one, as a decoder does."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse, self.up = conv(), nn.Conv2d(WIDTH, 6, 3, 2, 1), nn.Upsample(scale_factor=2)
        self.out = nn.Conv2d(WIDTH + 6, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        fine = self.fine(x)
        return self.out(torch.cat([self.up(self.coarse(fine)), fine], 1))  # type: ignore[no-any-return]


class GuidedHelpers(nn.Module):
    """Hold both tensors in a method that is also called on its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.norm, self.fc = conv(), conv(), nn.BatchNorm2d(WIDTH), nn.Linear(WIDTH, 3)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.body(F.relu(self.stem(x)))  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.norm(self.forward_features(x)).mean((2, 3)))  # type: ignore[no-any-return]


class TwoViews(nn.Module):
    """Take two images by name."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right, self.out = conv(), conv(), nn.Conv2d(2 * WIDTH, 3, 1)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.out(torch.cat([self.left(left), self.right(right)], 1))  # type: ignore[no-any-return]
