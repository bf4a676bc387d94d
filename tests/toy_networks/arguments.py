"""Forwards that branch on their arguments, on the mode or on chance."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .basics import WIDTH, conv


class Masked(nn.Module):
    """Branch on arguments that are not tensors in the example."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor, mask: Tensor | None = None, times: int = 1) -> Tensor:
        y: Tensor = self.conv(x)
        y = F.relu(y) if mask is None else y * mask
        for _ in range(times):
            y = y + x
        return y


class CallsMasked(nn.Module):
    """Call a branching stage with a constant keyword."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = Masked()

    def forward(self, x: Tensor) -> Tensor:
        return self.stage(x, times=2)  # type: ignore[no-any-return]


class FunctionalDropout(nn.Module):
    """Hand the mode on to a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.conv(x), 0.5, self.training) + x


class StochasticDepth(nn.Module):
    """Scale the branch by a random mask, in train mode only."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = conv(), nn.BatchNorm2d(WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.bn(self.conv(x))
        if self.training:
            y = y * torch.empty(y.shape[0], 1, 1, 1).bernoulli_(0.5)
        return y + x


class CoinFlip(nn.Module):
    """Skip the branch by a number drawn in Python."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        if self.training and torch.rand(1).item() < 0.5:
            return x + 0
        return x + self.conv(x)  # type: ignore[no-any-return]


class NoiseInTrain(nn.Module):
    """Add twice in train mode, so that `add` is another place there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        if self.training:
            y = y + torch.ones_like(y)
        return y + x


class CountsCalls(nn.Module):
    """Change an own buffer in place."""

    steps: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()
        self.register_buffer("steps", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.steps.add_(1)
        return self.conv(x) + x  # type: ignore[no-any-return]


class StopsEarly(nn.Module):
    """A flag ends the helper before its classifier; another changes what flows there."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1)
        self.fc = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x))

    def head(self, x: Tensor, pre_logits: bool = False, *, doubled: bool = False) -> Tensor:
        pooled = x.mean((2, 3))
        if pre_logits:
            return pooled
        return cast(Tensor, self.fc(2 * pooled if doubled else pooled))
