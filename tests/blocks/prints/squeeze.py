"""Squeeze-and-excitation and what grew from it."""

from __future__ import annotations

import math
from functools import partial

import torch
from timm.layers import EcaModule, EffectiveSEModule, GlobalContext, SEModule
from timm.layers.eca import CecaModule
from torch import Tensor, nn
from torchvision.ops import SqueezeExcitation

from .case import Print, State


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


class GCT(nn.Module):
    def __init__(self, num_channels: int, mode: str = "l2") -> None:
        super().__init__()
        self.alpha, self.gamma, self.beta = (nn.Parameter(torch.zeros(1, num_channels, 1, 1)) for _ in range(3))
        self.epsilon, self.mode = 1e-5, mode

    def forward(self, x: Tensor) -> Tensor:
        if self.mode == "l2":
            embedding = (x.pow(2).sum((2, 3), keepdim=True) + self.epsilon).pow(0.5) * self.alpha
            norm = self.gamma / (embedding.pow(2).mean(dim=1, keepdim=True) + self.epsilon).pow(0.5)
        else:
            embedding = torch.abs(x).sum((2, 3), keepdim=True) * self.alpha
            norm = self.gamma / (torch.abs(embedding).mean(dim=1, keepdim=True) + self.epsilon)
        return x * (1.0 + torch.tanh(embedding * norm + self.beta))


class GaussianGCT(nn.Module):
    def __init__(self, channels: int, c: float = 2) -> None:
        super().__init__()
        self.c = c

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.adaptive_avg_pool2d(x, 1)
        mean = y.mean(dim=1, keepdim=True)
        var = (y**2).mean(dim=1, keepdim=True) - mean**2
        y_norm = (y - mean) / torch.sqrt(var + 1e-5)
        return x * torch.exp(-(y_norm**2 / 2 * self.c))


class LCT(nn.Module):
    def __init__(self, channels: int, groups: int = 8) -> None:
        super().__init__()
        self.w, self.b, self.groups = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels)), groups

    def forward(self, x: Tensor) -> Tensor:
        y = x.mean((2, 3)).view(len(x), self.groups, -1)
        mean = y.mean(2, keepdim=True)
        var = (y**2).mean(2, keepdim=True) - mean**2
        y = ((y - mean) / torch.sqrt(var + 1e-5)).reshape(len(x), -1)
        return x * torch.sigmoid(self.w * y + self.b)[:, :, None, None]


class NAMChannel(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(x)
        weight = self.bn2.weight.data.abs() / torch.sum(self.bn2.weight.data.abs())
        return torch.sigmoid((y.permute(0, 2, 3, 1) * weight).permute(0, 3, 1, 2)) * x


class SGE(nn.Module):
    def __init__(self, groups: int = 8) -> None:
        super().__init__()
        self.groups = groups
        self.weight, self.bias = (nn.Parameter(torch.ones(1, groups, 1, 1)) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x = x.view(b * self.groups, -1, h, w)
        t = (x * nn.functional.adaptive_avg_pool2d(x, 1)).sum(1).view(b * self.groups, -1)
        t = t - t.mean(dim=1, keepdim=True)
        t = t / (t.std(dim=1, keepdim=True) + 1e-5)
        t = (t.view(b, self.groups, h, w) * self.weight + self.bias).view(b * self.groups, 1, h, w)
        return (x * torch.sigmoid(t)).view(b, c, h, w)


class SimAMModule(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[2] * x.shape[3] - 1
        d = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        return x * torch.sigmoid(d / (4 * (d.sum(dim=[2, 3], keepdim=True) / n + 1e-4)) + 0.5)


class SRMLayer(nn.Module):
    """The authors', by a matrix of two weights a channel."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.cfc, self.bn = nn.Parameter(torch.zeros(channel, 2)), nn.BatchNorm2d(channel)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.view(*x.shape[:2], -1)
        style = torch.stack((flat.mean(2), (flat.var(2) + 1e-5).sqrt()), 2)
        return x * torch.sigmoid(self.bn((style * self.cfc).sum(2)[:, :, None, None]))


class SRMConv(nn.Module):
    """By a grouped convolution, with a deviation without ε."""

    def __init__(self, channel: int) -> None:
        super().__init__()
        self.cfc = nn.Conv1d(channel, channel, kernel_size=2, bias=False, groups=channel)
        self.bn = nn.BatchNorm1d(channel)

    def forward(self, x: Tensor) -> Tensor:
        flat = x.view(*x.shape[:2], -1)
        z = self.bn(self.cfc(torch.stack((flat.mean(2), flat.std(2)), -1)))
        y: Tensor = x * torch.sigmoid(z).unsqueeze(-1)
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


def tv_squeeze(channels: int, **options: object) -> nn.Module:
    return SqueezeExcitation(channels, **options)  # type: ignore[arg-type]


def gct_state(given: State) -> State:
    return {name: value[0] for name, value in given.items()}


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
    Print("the authors' GCT", "gct", {}, GCT, derive=gct_state),
    Print("the authors' GCT, l1", "gct", {"norm": "l1"}, partial(GCT, mode="l1"), derive=gct_state),
    Print("GCT, exp(−ẑ² c / 2)", "gct-gauss", {"c": 2**-0.5}, GaussianGCT),
    Print("LCT", "lct", {"groups": 8}, LCT, {"norm.weight": "w", "norm.bias": "b"}),
    Print("the authors' NAM", "nam", {}, NAMChannel, {"bn": "bn2"}),
    Print(
        "the authors' SGE",
        "sge",
        {"groups": 8, "unbiased": True},
        lambda channels: SGE(),
        {"norm.weight": "weight", "norm.bias": "bias"},
    ),
    Print("the authors' SimAM", "simam", {"unbiased": True}, lambda channels: SimAMModule()),
    Print("the authors' SRM", "srm", {"unbiased": True}, SRMLayer, {"cfc.weight": "cfc", "bn": "bn"}),
    Print("SRM by a grouped convolution", "srm", {"unbiased": True, "eps": 1e-30}, SRMConv, {"cfc": "cfc", "bn": "bn"}),
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
