"""Squeeze-and-excitation and what grew from it."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from timm.layers import EcaModule, EffectiveSEModule, GlobalContext, SEModule
from timm.layers.eca import CecaModule
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from .case import Print


class SELayer(nn.Module):
    def __init__(self, channel: int, reduction: int = 16) -> None:
        super().__init__()
        narrow = channel // reduction
        layers = [nn.Linear(channel, narrow, bias=False), nn.ReLU(), nn.Linear(narrow, channel, bias=False)]
        self.fc = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        gates = self.fc(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))
        y: Tensor = x * gates.view(*gates.shape, 1, 1)
        return y


class EcaBlock(nn.Module):
    def __init__(self, channel: int, b: float = 1, gamma: float = 2) -> None:
        super().__init__()
        size = int(abs((math.log(channel, 2) + b) / gamma))
        size = size if size % 2 else size + 1
        self.conv = nn.Conv1d(1, 1, size, padding=(size - 1) // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(x, 1)
        z = self.conv(pooled.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * torch.sigmoid(z)


class ContextBlock(nn.Module):
    """GCNet's own, with both fusions."""

    def __init__(self, inplanes: int, ratio: float = 1 / 16) -> None:
        super().__init__()
        planes = int(inplanes * ratio)
        self.conv_mask = nn.Conv2d(inplanes, 1, 1)
        self.channel_add_conv, self.channel_mul_conv = (
            nn.Sequential(
                nn.Conv2d(inplanes, planes, 1), nn.LayerNorm([planes, 1, 1]), nn.ReLU(), nn.Conv2d(planes, inplanes, 1)
            )
            for _ in range(2)
        )

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        mask = self.conv_mask(x).view(n, 1, h * w).softmax(2).unsqueeze(-1)
        context = torch.matmul(x.view(n, c, h * w).unsqueeze(1), mask).view(n, c, 1, 1)
        y: Tensor = x * torch.sigmoid(self.channel_mul_conv(context)) + self.channel_add_conv(context)
        return y


class FcaLayer(nn.Module):
    """The authors', of sixteen frequencies on a map pooled to one size."""

    # top16's rows and columns among 7 × 7, in the authors' order
    ROWS = (0, 0, 6, 0, 0, 1, 1, 4, 5, 1, 3, 0, 0, 0, 3, 2)
    COLUMNS = (0, 1, 0, 5, 2, 0, 2, 0, 0, 6, 0, 4, 6, 3, 5, 2)

    def __init__(self, channel: int, side: int, reduction: int = 16) -> None:
        super().__init__()
        narrow = channel // reduction
        layers = [nn.Linear(channel, narrow, bias=False), nn.ReLU(), nn.Linear(narrow, channel, bias=False)]
        self.fc, self.side = nn.Sequential(*layers, nn.Sigmoid()), side

    def wave(self, frequency: int) -> Tensor:
        places = torch.arange(self.side, dtype=torch.float64) + 0.5
        made = torch.cos(math.pi * frequency * (self.side // 7) * places / self.side) / math.sqrt(self.side)
        return made if frequency == 0 else made * math.sqrt(2)

    def forward(self, x: Tensor) -> Tensor:
        pooled = nn.functional.adaptive_avg_pool2d(x, (self.side, self.side))
        filters = [
            torch.outer(self.wave(row), self.wave(column)) for row, column in zip(self.ROWS, self.COLUMNS, strict=True)
        ]
        weight = torch.stack(filters).repeat_interleave(x.shape[1] // 16, 0)
        y: Tensor = x * self.fc((pooled * weight).sum((2, 3)))[:, :, None, None]
        return y


class GatherExcite(nn.Module):
    """GE-θ⁺ by strided depthwise convolutions, and GE by the mean of the map, both with an MLP as in timm."""

    def __init__(self, channels: int, extent: int, reduction: int) -> None:
        super().__init__()
        self.gather = nn.Sequential()
        steps = extent.bit_length() - 1
        for step in range(steps):
            self.gather.add_module(
                f"conv{step + 1}", nn.Conv2d(channels, channels, 3, 2, 1, groups=channels, bias=False)
            )
            self.gather.add_module(f"norm{step + 1}", nn.BatchNorm2d(channels))
            if step != steps - 1:
                self.gather.add_module(f"act{step + 1}", nn.ReLU())
        narrow = channels // reduction
        self.fc1, self.fc2 = nn.Conv2d(channels, narrow, 1), nn.Conv2d(narrow, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gathered = self.gather(x) if len(self.gather) else x.mean((2, 3), keepdim=True)
        z = self.fc2(torch.relu(self.fc1(gathered)))
        return x * torch.sigmoid(nn.functional.interpolate(z, size=x.shape[-2:]))


def tv_squeeze(channels: int, **options: Any) -> nn.Module:
    made: nn.Module = SqueezeExcitation(channels, **options)
    return made


FC12 = {"fc1": "fc1", "fc2": "fc2"}


MLP = {"mlp.0": "fc1", "mlp.2": "fc2"}


GATHER = {
    f"gather.{3 * step + place}": f"gather.{name}{step + 1}"
    for step in (0, 1)
    for place, name in enumerate(("conv", "norm"))
}


GC = {f"{half}.{place}": f"channel_{half}_conv.{place}" for half in ("add", "mul") for place in (0, 1, 3)}


TIMM_GC = {f"mul.{place}": f"mlp_scale.{name}" for place, name in ((0, "fc1"), (1, "norm"), (3, "fc2"))}


PRINTS = [
    Print(
        "SELayer, se_block",
        "se",
        {"bias": False, "least": 1},
        SELayer,
        {"fc1": "fc.0", "fc2": "fc.2"},
        channels=(16, 24, 64),
    ),
    Print("timm's SEModule, as in SE-ResNets", "se", {"least": 8}, SEModule, FC12, channels=(64, 256)),
    Print(
        "EfficientNet's, 96 to 4 with SiLU",
        "se",
        {"hidden": 4, "activation": "silu"},
        partial(tv_squeeze, squeeze_channels=4, activation=nn.SiLU),
        FC12,
        channels=(96,),
    ),
    Print(
        "MobileNetV3's, 72 to 24 with a hard sigmoid",
        "se",
        {"hidden": 24, "gate": "hardsigmoid"},
        partial(tv_squeeze, squeeze_channels=24, scale_activation=nn.Hardsigmoid),
        FC12,
        channels=(72,),
    ),
    Print("timm's EffectiveSEModule", "ese", {}, EffectiveSEModule, {"fc": "fc"}),
    Print("eca_block", "eca", {}, EcaBlock, {"conv": "conv"}, channels=(16, 64, 256)),
    Print("eca_layer with k fixed", "eca", {"kernel_size": 5}, lambda channels: EcaModule(None, 5), {"conv": "conv"}),
    Print("timm's EcaModule", "eca", {}, EcaModule, {"conv": "conv"}, channels=(64, 512)),
    Print(
        "timm's EcaModule with a hard sigmoid",
        "eca",
        {"gate": "hardsigmoid"},
        partial(EcaModule, gate_layer="hard_sigmoid"),
        {"conv": "conv"},
        channels=(64,),
    ),
    Print("timm's CecaModule", "eca", {"circular": True}, CecaModule, {"conv": "conv"}, channels=(64,)),
    Print(
        "GCNet's ContextBlock",
        "gc",
        {"fusion": "both", "least": 1},
        ContextBlock,
        {"mask.weight": "conv_mask.weight", **GC},
        channels=(32, 64),
    ),
    Print(
        "timm's GlobalContext",
        "gc",
        {"fusion": "mul", "reduction": 8, "least": 1, "eps": 1e-6},
        GlobalContext,
        {"mask.weight": "conv_attn.weight", **TIMM_GC},
        channels=(16, 64),
    ),
    Print(
        "the authors' FcaLayer",
        "fca",
        {"size": 14, "least": 1},
        partial(FcaLayer, side=14),
        {"fc1": "fc.0", "fc2": "fc.2"},
        channels=(16, 32),
        size=(15, 9),
    ),
    Print(
        "GatherExcite of timm, GE-θ⁺ of extent 4",
        "ge",
        {"extent": 4, "mlp": True, "least": 1},
        partial(GatherExcite, extent=4, reduction=16),
        {**GATHER, **MLP},
        size=(8, 12),
    ),
    Print(
        "GatherExcite of timm, of means and an MLP",
        "ge",
        {"extent": 0, "parameters": False, "mlp": True, "reduction": 8},
        partial(GatherExcite, extent=0, reduction=8),
        MLP,
    ),
]
