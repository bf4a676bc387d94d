"""Blocks that weigh channels or positions by their statistics."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from .case import Print, State


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


def gct_state(given: State) -> State:
    return {name: value[0] for name, value in given.items()}


PRINTS = [
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
]
