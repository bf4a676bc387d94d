"""BAM, scSE and GAM."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Print


class BAM(nn.Module):
    """The sum, or in the authors' code the product, of two branches."""

    def __init__(self, channel: int, layers: int, convolutions: int, dilation: int, product: bool = False) -> None:
        super().__init__()
        narrow, self.product = channel // 16, product
        widths = [channel, *[narrow] * layers]
        channels: list[nn.Module] = []
        for given, made in pairwise(widths):
            channels += [nn.Linear(given, made), nn.BatchNorm1d(made), nn.ReLU()]
        self.ca = nn.Sequential(*channels, nn.Linear(narrow, channel))
        positions: list[nn.Module] = [nn.Conv2d(channel, narrow, 1), nn.BatchNorm2d(narrow), nn.ReLU()]
        for _ in range(convolutions):
            conv = nn.Conv2d(narrow, narrow, 3, padding=dilation, dilation=dilation)
            positions += [conv, nn.BatchNorm2d(narrow), nn.ReLU()]
        self.sa = nn.Sequential(*positions, nn.Conv2d(narrow, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        of_channels = self.ca(x.mean((2, 3))).unsqueeze(-1).unsqueeze(-1).expand_as(x)
        of_positions = self.sa(x).expand_as(x)
        z = of_channels * of_positions if self.product else of_channels + of_positions
        return (1 + torch.sigmoid(z)) * x


class BAMChannel(nn.Module):
    def __init__(self, channel: int) -> None:
        super().__init__()
        narrow = channel // 16
        self.ca = nn.Sequential(
            nn.Linear(channel, narrow), nn.BatchNorm1d(narrow), nn.ReLU(), nn.Linear(narrow, channel)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + torch.sigmoid(self.ca(x.mean((2, 3)))))[:, :, None, None]


class SCSEModule(nn.Module):
    """As in segmentation_models_pytorch, or without biases and ReLU."""

    def __init__(self, in_channels: int, reduction: int = 16, plain: bool = False) -> None:
        super().__init__()
        narrow = in_channels // reduction
        first, last = (
            nn.Conv2d(in_channels, narrow, 1, bias=not plain),
            nn.Conv2d(narrow, in_channels, 1, bias=not plain),
        )
        self.cSE = nn.Sequential(first, nn.Identity() if plain else nn.ReLU(), last)
        self.sSE = nn.Conv2d(in_channels, 1, 1, bias=not plain)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * torch.sigmoid(self.cSE(F.adaptive_avg_pool2d(x, 1))) + x * torch.sigmoid(self.sSE(x))
        return y


class GAM(nn.Module):
    def __init__(self, channels: int, rate: int = 4, group: bool = False, sigmoid: bool = False) -> None:
        super().__init__()
        narrow, groups, self.group, self.sigmoid = channels // rate, rate if group else 1, group, sigmoid
        self.channel_attention = nn.Sequential(nn.Linear(channels, narrow), nn.ReLU(), nn.Linear(narrow, channels))
        self.spatial_attention = nn.Sequential(
            nn.Conv2d(channels, narrow, 7, padding=3, groups=groups),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, channels, 7, padding=3, groups=groups),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        att = self.channel_attention(x.permute(0, 2, 3, 1).view(b, -1, c)).view(b, h, w, c).permute(0, 3, 1, 2)
        x = x * (att.sigmoid() if self.sigmoid else att)
        gates = self.spatial_attention(x).sigmoid()
        if self.group:
            gates = gates.view(b, 4, c // 4, h, w).transpose(1, 2).reshape(b, c, h, w)
        y: Tensor = x * gates
        return y


def bam_names(layers: int, convolutions: int) -> tuple[dict[str, str], dict[str, str]]:
    """Return the names of both branches, and the layers whose biases are before a norm."""
    names = {"channel.fc1": "ca.0", "channel.bn": "ca.1", "channel.fc2": f"ca.{3 * layers}"}
    names |= {"spatial.reduce": "sa.0", "spatial.bn0": "sa.1", "spatial.last": f"sa.{3 * convolutions + 3}"}
    folded = {"channel.bn": "ca.0", "spatial.bn0": "sa.0"}
    for index in range(1, layers):
        names |= {
            f"channel.more.{3 * index - 3}": f"ca.{3 * index}",
            f"channel.more.{3 * index - 2}": f"ca.{3 * index + 1}",
        }
        folded[f"channel.more.{3 * index - 2}"] = f"ca.{3 * index}"
    for index in range(1, convolutions + 1):
        conv, norm = (
            (f"spatial.conv{index}", f"spatial.bn{index}") if index < 3 else ("spatial.more.0", "spatial.more.1")
        )
        names |= {conv: f"sa.{3 * index}", norm: f"sa.{3 * index + 1}"}
        folded[norm] = f"sa.{3 * index}"
    return names, folded


def bam(
    source: str, options: dict[str, Any], layers: int, convolutions: int, dilation: int, product: bool = False
) -> Print:
    names, folded = bam_names(layers, convolutions)
    module = partial(BAM, layers=layers, convolutions=convolutions, dilation=dilation, product=product)
    return Print(source, "bam", {"least": 1, **options}, module, names, folded, size=(9, 8))


GAM_NAMES = {"fc1": "channel_attention.0", "fc2": "channel_attention.2"}


GAM_NAMES |= {
    name: f"spatial_attention.{place}" for name, place in (("conv1", 0), ("bn1", 1), ("conv2", 3), ("bn2", 4))
}


GAM_FOLDED = {"bn1": "spatial_attention.0", "bn2": "spatial_attention.3"}


PRINTS = [
    bam("the authors' BAM, a product", {"combine": "mul"}, 1, 2, 4, True),
    bam("BAMBlock of three layers a branch", {"layers": 3, "convolutions": 3, "dilation": 2}, 3, 3, 2),
    Print(
        "the authors' ChannelGate",
        "bam-channel",
        {"least": 1},
        BAMChannel,
        {"branch.fc1": "ca.0", "branch.bn": "ca.1", "branch.fc2": "ca.3"},
        {"branch.bn": "ca.0"},
    ),
    Print(
        "SCSEModule",
        "scse",
        {"reduction": 16, "least": 1},
        SCSEModule,
        {"fc1": "cSE.0", "fc2": "cSE.2", "point": "sSE"},
        channels=(16, 64),
    ),
    Print(
        "scSE without biases and ReLU",
        "scse",
        {"bias": False, "activation": "identity"},
        partial(SCSEModule, reduction=2, plain=True),
        {"fc1": "cSE.0", "fc2": "cSE.2", "point": "sSE"},
    ),
    Print("GAM_Attention", "gam", {"channel_gate": "none", "least": 1}, GAM, GAM_NAMES, GAM_FOLDED, size=(9, 8)),
    Print("GAM_Attention with a sigmoid", "gam", {}, partial(GAM, sigmoid=True), GAM_NAMES, GAM_FOLDED, size=(9, 8)),
    Print(
        "GAM_Attention in groups",
        "gam",
        {"channel_gate": "none", "groups": 4},
        partial(GAM, group=True),
        GAM_NAMES,
        GAM_FOLDED,
        size=(9, 8),
    ),
]
