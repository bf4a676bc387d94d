"""Containers that are called, iterated, sliced and indexed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .basics import WIDTH, Residual, conv


class Stages(nn.Module):
    """Run a Sequential in one of the ways its parents do."""

    def __init__(self, how: Callable[[nn.Sequential, Tensor], Tensor]) -> None:
        super().__init__()
        self.stage, self.how = nn.Sequential(Residual(), nn.ReLU(), Residual()), how

    def forward(self, x: Tensor) -> Tensor:
        return self.how(self.stage, x)


def call(stage: nn.Sequential, x: Tensor) -> Tensor:
    return stage(x)  # type: ignore[no-any-return]


def iterate(stage: nn.Sequential, x: Tensor) -> Tensor:
    for module in stage:
        x = module(x)
    return x


def slices(stage: nn.Sequential, x: Tensor) -> Tensor:
    return stage[2:](stage[:2](x))  # type: ignore[no-any-return]


def index(stage: nn.Sequential, x: Tensor) -> Tensor:
    for position in range(len(stage)):
        x = stage[position](x)
    return x


class Dense(nn.ModuleDict):
    """Run the items of a dict on everything so far, as DenseNet's blocks do."""

    def __init__(self) -> None:
        super().__init__({f"layer{n}": nn.Conv2d(WIDTH * n, WIDTH, 1) for n in (1, 2)})

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for name, layer in self.items():
            assert name.startswith("layer")
            features.append(layer(torch.cat(features, 1)))
        return torch.cat(features, 1)


class OverChildren(nn.Module):
    """Run whatever children it has."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv(), conv()

    def forward(self, x: Tensor) -> Tensor:
        for child in self.children():
            x = child(x)
        return x
