"""Networks that are rewritten for inference by methods of their own."""

from __future__ import annotations

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import fuse_conv_bn_weights

from .networks import Placements

TIMM = Placements("body", "stem.act", "body")
LEVIT = Placements("stem", "stem.linear", "body")
DEPLOY = Placements("stem", "body.branch", "body")


class Head(nn.Module):
    """A stem, a body and a head."""

    def __init__(self, stem: nn.Module, body: nn.Module) -> None:
        super().__init__()
        self.stem, self.body = stem, body
        self.pool, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(self.pool(self.body(self.stem(x))).flatten(1))
        return out


def mobileone() -> nn.Module:
    from timm.models.byobnet import MobileOneBlock

    return Head(MobileOneBlock(3, 8, stride=2), MobileOneBlock(8, 16))


def levit() -> nn.Module:
    from timm.models.levit import ConvNorm

    return Head(ConvNorm(3, 8, 3, 2, 1), nn.Sequential(ConvNorm(8, 16, 3, 2, 1), nn.Hardswish()))


class RepBlock(nn.Module):
    """Two branches with norms that become one convolution, as in RepVGG's own code."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs))
        self.point = nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor
        if hasattr(self, "reparam"):
            out = self.act(self.reparam(x))
            return out
        out = self.act(self.branch(x) + self.point(x))
        return out

    def switch_to_deploy(self) -> None:
        weight, bias = _fused(self.branch)
        more_weight, more_bias = _fused(self.point)
        self.reparam = nn.Conv2d(weight.shape[1], weight.shape[0], 3, padding=1)
        self.reparam.weight.data, self.reparam.bias.data = weight + F.pad(more_weight, [1] * 4), bias + more_bias  # type: ignore[union-attr]
        del self.branch, self.point


@torch.no_grad()
def _fused(branch: nn.Sequential) -> tuple[Tensor, Tensor]:
    conv, norm = cast(Any, branch[0]), cast(Any, branch[1])
    mean, var = norm.running_mean, norm.running_var
    return fuse_conv_bn_weights(conv.weight, None, mean, var, norm.eps, norm.weight, norm.bias)


def repvgg() -> nn.Module:
    return Head(RepBlock(3, 8), RepBlock(8, 16))
