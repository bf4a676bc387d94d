"""CBAM and its spatial half."""

from __future__ import annotations

from functools import partial

import torch
from timm.layers.cbam import CbamModule
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Print


class ChannelAttention(nn.Module):
    def __init__(self, in_planes: int, ratio: int = 8) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(in_planes, in_planes // ratio, 1, bias=False)
        self.fc2 = nn.Conv2d(in_planes // ratio, in_planes, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean, largest = F.adaptive_avg_pool2d(x, 1), F.adaptive_max_pool2d(x, 1)
        return torch.sigmoid(self.fc2(F.relu(self.fc1(mean))) + self.fc2(F.relu(self.fc1(largest))))


class SpatialAttention(nn.Module):
    def __init__(self, kernel_size: int = 7, mean_first: bool = True, bias: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=bias)
        self.mean_first = mean_first

    def forward(self, x: Tensor) -> Tensor:
        avg_out, (max_out, _) = torch.mean(x, dim=1, keepdim=True), torch.max(x, dim=1, keepdim=True)
        pooled = [avg_out, max_out] if self.mean_first else [max_out, avg_out]
        return torch.sigmoid(self.conv1(torch.cat(pooled, dim=1)))


class SpatialAlone(SpatialAttention):
    def forward(self, x: Tensor) -> Tensor:
        return x * super().forward(x)


class CbamBlock(nn.Module):
    """By its halves, with and without the features added."""

    def __init__(self, channel: int, ratio: int = 8, kernel_size: int = 7, residual: bool = False) -> None:
        super().__init__()
        self.channelattention, self.residual = ChannelAttention(channel, ratio), residual
        self.spatialattention = SpatialAttention(kernel_size, not residual, residual)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.channelattention(x)
        y = y * self.spatialattention(y)
        return y + x if self.residual else y


def spatial_alone(channels: int, size: int) -> nn.Module:
    return SpatialAlone(size)


def timm_cbam(channels: int) -> nn.Module:
    made: nn.Module = CbamModule(channels)
    return made


MLP = {"channel.mlp.0": "channelattention.fc1", "channel.mlp.2": "channelattention.fc2"}


CBAM = {**MLP, "spatial.conv": "spatialattention.conv1"}


NO_NORM = {"norm": False, "order": "mean-max"}


PRINTS = [
    *[
        Print(
            f"SpatialAttention of kernel {size}",
            "spatial",
            {"kernel_size": size, **NO_NORM},
            partial(spatial_alone, size=size),
            {"conv": "conv1"},
        )
        for size in (3, 7)
    ],
    Print(
        "cbam_block",
        "cbam",
        {"reduction": 8, "least": 1, "bias": False, **NO_NORM},
        CbamBlock,
        CBAM,
        channels=(16, 32, 128),
    ),
    Print(
        "CBAMBlock with the features added and a bias",
        "cbam",
        {"reduction": 16, "least": 1, "bias": False, "norm": False, "conv_bias": True, "residual": True},
        partial(CbamBlock, ratio=16, residual=True),
        CBAM,
    ),
    Print(
        "timm's CbamModule",
        "cbam",
        {"least": 1, "bias": False, "order": "mean-max", "momentum": 0.1},
        timm_cbam,
        {
            "channel.mlp.0": "channel.fc1",
            "channel.mlp.2": "channel.fc2",
            "spatial.conv": "spatial.conv.conv",
            "spatial.bn": "spatial.conv.bn",
        },
        channels=(16, 64),
    ),
]
