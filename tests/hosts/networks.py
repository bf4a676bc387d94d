"""The small networks that hosts work on, with BatchNorms that do something and placements that suit them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Placements:
    """A module whose output is grafted, one that is called inside the forward of its owner, one whose input is."""

    output: str
    inside: str
    before: str

    def wish(self, side: str) -> dict[str, str]:
        """Give the argument of `insert` for a placement."""
        return {"before" if side == "before" else "after": getattr(self, side)}


BLOCKS = Placements("stem", "block.bn2", "block.conv2")
NORMS = Placements("stem.1", "block.bn2", "block.bn1")
CONVS = Placements("stem.0", "block.conv2", "block.conv1")


def image() -> Tensor:
    return torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    """Two convolutions with their norms, and the input added."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.conv2, self.bn2 = nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width)
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.act(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        out: Tensor = self.act(y + x)
        return out


class Tiny(nn.Module):
    """A stem in a Sequential, a residual block, a second Sequential and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())
        self.block = Residual()
        self.last = nn.Sequential(nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.SiLU())
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.last(self.block(self.stem(x)))
        out: Tensor = self.fc(torch.flatten(self.avgpool(x), 1))
        return out


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a network that is the same each time, in eval mode, with norms that are not the identity."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build().eval()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                _vary(module)
    return model


def settled(model: nn.Module, x: Tensor) -> nn.Module:
    """Give norms the statistics of an example; without them a deep network at random hardly looks at its input."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


@torch.no_grad()
def _vary(norm: Any) -> None:
    if norm.running_mean is not None and not norm.running_mean.any():
        norm.running_mean.normal_(0, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
    if norm.affine:
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.1)
