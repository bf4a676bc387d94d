"""Blocks of large kernels."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Print


class CPCA(nn.Module):
    """The authors' code."""

    def __init__(self, channels: int, reduce: int = 4) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, channels // reduce, 1), nn.Conv2d(channels // reduce, channels, 1)
        self.dconv5_5 = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        for length in (7, 11, 21):
            for shape in ((1, length), (length, 1)):
                conv = nn.Conv2d(channels, channels, shape, padding=(shape[0] // 2, shape[1] // 2), groups=channels)
                self.add_module(f"dconv{shape[0]}_{shape[1]}", conv)
        self.conv = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        inputs = F.gelu(self.conv(x))
        pooled = F.adaptive_avg_pool2d(inputs, 1), F.adaptive_max_pool2d(inputs, 1)
        inputs = sum(torch.sigmoid(self.fc2(F.relu(self.fc1(each)))) for each in pooled) * inputs
        init = total = self.dconv5_5(inputs)
        for length in (7, 11, 21):
            total = total + self.get_submodule(f"dconv{length}_1")(self.get_submodule(f"dconv1_{length}")(init))
        y: Tensor = self.conv(self.conv(total) * inputs)
        return y


class LKA(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, groups=dim, dilation=3)
        self.conv1 = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.conv1(self.conv_spatial(self.conv0(x)))
        return y


class LSKBlock(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(dim, dim, 5, padding=2, groups=dim)
        self.conv_spatial = nn.Conv2d(dim, dim, 7, padding=9, groups=dim, dilation=3)
        self.conv1, self.conv2 = nn.Conv2d(dim, dim // 2, 1), nn.Conv2d(dim, dim // 2, 1)
        self.conv_squeeze, self.conv = nn.Conv2d(2, 2, 7, padding=3), nn.Conv2d(dim // 2, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        attn1 = self.conv0(x)
        attn2 = self.conv2(self.conv_spatial(attn1))
        attn1 = self.conv1(attn1)
        attn = torch.cat([attn1, attn2], dim=1)
        agg = torch.cat([attn.mean(dim=1, keepdim=True), attn.max(dim=1, keepdim=True)[0]], dim=1)
        sig = self.conv_squeeze(agg).sigmoid()
        y: Tensor = x * self.conv(attn1 * sig[:, :1] + attn2 * sig[:, 1:])
        return y


class Attention(nn.Module):
    """What VAN and LSKNet put around these units."""

    def __init__(self, d_model: int, unit: type[nn.Module]) -> None:
        super().__init__()
        self.proj_1, self.proj_2 = nn.Conv2d(d_model, d_model, 1), nn.Conv2d(d_model, d_model, 1)
        self.spatial_gating_unit = unit(d_model)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(x)))) + x
        return y


CPCA_NAMES = {"channel.mlp.0": "fc1", "channel.mlp.2": "fc2", "near": "dconv5_5", "mix": "conv"}


for index, length in enumerate((7, 11, 21)):
    CPCA_NAMES |= {f"strips.{index}.0": f"dconv1_{length}", f"strips.{index}.1": f"dconv{length}_1"}


LKA_NAMES = {"near": "conv0", "far": "conv_spatial", "mix": "conv1"}


LSK_NAMES = {"near": "conv0", "far": "conv_spatial", "reduce_near": "conv1", "reduce_far": "conv2"}


LSK_NAMES |= {"choose": "conv_squeeze", "mix": "conv"}


def projected(names: dict[str, str]) -> dict[str, str]:
    inner = {f"projected.block.{name}": f"spatial_gating_unit.{other}" for name, other in names.items()}
    return {"projected.enter": "proj_1", "projected.leave": "proj_2", **inner}


PRINTS = [
    Print("VAN's LKA", "lka", {}, LKA, LKA_NAMES, size=(12, 11)),
    Print(
        "VAN's Attention",
        "lka",
        {"projections": True},
        partial(Attention, unit=LKA),
        projected(LKA_NAMES),
        size=(12, 11),
    ),
    Print("LSKNet's LSKblock", "lsk", {}, LSKBlock, LSK_NAMES, size=(12, 11)),
    Print(
        "LSKNet's Attention",
        "lsk",
        {"projections": True},
        partial(Attention, unit=LSKBlock),
        projected(LSK_NAMES),
        size=(12, 11),
    ),
    Print("the authors' CPCABlock", "cpca", {"form": "code"}, CPCA, CPCA_NAMES, size=(12, 11)),
]
