"""Forwards that do not trace, or that are made of helper methods."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .basics import WIDTH, conv


class IntOnShape(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        size = int(x.shape[-1]) // 2
        return F.adaptive_avg_pool2d(self.conv(x), size)


class BranchOnValue(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y if y.sum() > 0 else y - 1


class TakesList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, maps: list[Tensor]) -> Tensor:
        return self.conv(maps[0]) + maps[1]  # type: ignore[no-any-return]


class GivesList(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage = TakesList()

    def forward(self, x: Tensor) -> Tensor:
        return self.stage([x, x * 2])  # type: ignore[no-any-return]


class Helpers(nn.Module):
    """Split the forward into methods that are also called on their own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.body, self.norm, self.fc = conv(), conv(), nn.BatchNorm2d(WIDTH), nn.Linear(WIDTH, 3)

    def forward_features(self, x: Tensor) -> Tensor:
        return self.body(F.relu(self.stem(x)))  # type: ignore[no-any-return]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = x.mean((2, 3))
        return x if pre_logits else self.fc(x)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.forward_features(x))
        return self.forward_head(x)


class Positions(nn.Module):
    """Make a constant tensor in the forward, of a size that the input does not show."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.length = conv(), WIDTH

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + torch.arange(self.length).view(1, -1, 1, 1)  # type: ignore[no-any-return]
