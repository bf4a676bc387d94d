"""CBAM and its relatives: blocks that weigh channels and positions, or positions alone."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from timm.layers.cbam import CbamModule
from timm.layers.coord_attn import CoordAttn, SimpleCoordAttn
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Print, State


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


class CABlock(nn.Module):
    def __init__(self, channel: int, reduction: int = 16) -> None:
        super().__init__()
        narrow = channel // reduction
        self.conv_1x1, self.bn = nn.Conv2d(channel, narrow, 1, bias=False), nn.BatchNorm2d(narrow)
        self.F_h, self.F_w = nn.Conv2d(narrow, channel, 1, bias=False), nn.Conv2d(narrow, channel, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        x_h, x_w = torch.mean(x, dim=3, keepdim=True).permute(0, 1, 3, 2), torch.mean(x, dim=2, keepdim=True)
        both = torch.relu(self.bn(self.conv_1x1(torch.cat((x_h, x_w), 3))))
        of_h, of_w = both.split([h, w], 3)
        s_h, s_w = torch.sigmoid(self.F_h(of_h.permute(0, 1, 3, 2))), torch.sigmoid(self.F_w(of_w))
        return x * s_h.expand_as(x) * s_w.expand_as(x)


class CoordAtt(nn.Module):
    """The authors', whose first convolution has a bias before its norm."""

    def __init__(self, inp: int, reduction: int = 32) -> None:
        super().__init__()
        mip = max(8, inp // reduction)
        self.conv1, self.bn1 = nn.Conv2d(inp, mip, 1), nn.BatchNorm2d(mip)
        self.conv_h, self.conv_w = nn.Conv2d(mip, inp, 1), nn.Conv2d(mip, inp, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        x_h, x_w = F.adaptive_avg_pool2d(x, (h, 1)), F.adaptive_avg_pool2d(x, (1, w)).permute(0, 1, 3, 2)
        y = self.bn1(self.conv1(torch.cat([x_h, x_w], dim=2)))
        x_h, x_w = torch.split(y * F.relu6(y + 3) / 6, [h, w], dim=2)
        a_h, a_w = self.conv_h(x_h).sigmoid(), self.conv_w(x_w.permute(0, 1, 3, 2)).sigmoid()
        return x * a_w * a_h


class BAM(nn.Module):
    """The sum, or in the authors' code the product, of two branches."""

    def __init__(self, channel: int, layers: int, convolutions: int, dilation: int, product: bool = False) -> None:
        super().__init__()
        narrow, self.product = channel // 16, product
        widths = [channel, *[narrow] * layers]
        channels: list[nn.Module] = []
        for given, made in zip(widths[:-1], widths[1:], strict=True):
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
        return x * gates


class SoftAttention(nn.Module):
    """A gate for each channel and position, from a hidden layer or without one."""

    def __init__(self, channels: int, hidden: bool = True) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(
            channels, channels // 16 if hidden else channels, 3 if hidden else 1, padding=int(hidden)
        )
        self.conv2 = nn.Conv2d(channels // 16, channels, 1) if hidden else None

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv1(x)
        return x * torch.sigmoid(z if self.conv2 is None else self.conv2(F.relu(z)))


class ATAC(nn.Module):
    """Dai et al. 2020, Attention as Activation, without norms."""

    def __init__(self, channel: int, reduction: int = 16) -> None:
        super().__init__()
        narrow = channel // reduction
        layers = [nn.Conv2d(channel, narrow, 1, bias=False), nn.ReLU(), nn.Conv2d(narrow, channel, 1, bias=False)]
        self.path = nn.Sequential(*layers, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x * self.path(x)
        return y


class ShuffleAttention(nn.Module):
    def __init__(self, channel: int, groups: int = 8) -> None:
        super().__init__()
        self.groups, half = groups, channel // (2 * groups)
        self.cweight, self.cbias, self.sweight, self.sbias = (nn.Parameter(torch.ones(1, half, 1, 1)) for _ in range(4))
        self.gn = nn.GroupNorm(half, half)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        x_0, x_1 = x.reshape(b * self.groups, -1, h, w).chunk(2, dim=1)
        x_n = x_0 * torch.sigmoid(self.cweight * F.adaptive_avg_pool2d(x_0, 1) + self.cbias)
        x_s = x_1 * torch.sigmoid(self.sweight * self.gn(x_1) + self.sbias)
        out = torch.cat([x_n, x_s], dim=1).reshape(b, -1, h, w)
        return out.reshape(b, 2, -1, h, w).permute(0, 2, 1, 3, 4).reshape(b, -1, h, w)


class EMA(nn.Module):
    def __init__(self, channels: int, factor: int = 8) -> None:
        super().__init__()
        self.groups, share = factor, channels // factor
        self.gn = nn.GroupNorm(share, share)
        self.conv1x1, self.conv3x3 = nn.Conv2d(share, share, 1), nn.Conv2d(share, share, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        group_x = x.reshape(b * self.groups, -1, h, w)
        x_h, x_w = F.adaptive_avg_pool2d(group_x, (h, 1)), F.adaptive_avg_pool2d(group_x, (1, w)).permute(0, 1, 3, 2)
        x_h, x_w = torch.split(self.conv1x1(torch.cat([x_h, x_w], dim=2)), [h, w], dim=2)
        x1 = self.gn(group_x * x_h.sigmoid() * x_w.permute(0, 1, 3, 2).sigmoid())
        x2 = self.conv3x3(group_x)
        x11, x21 = (F.softmax(F.adaptive_avg_pool2d(each, 1).reshape(len(each), 1, -1), -1) for each in (x1, x2))
        x12, x22 = (each.reshape(b * self.groups, c // self.groups, -1) for each in (x2, x1))
        weights = (torch.matmul(x11, x12) + torch.matmul(x21, x22)).reshape(b * self.groups, 1, h, w)
        return (group_x * weights.sigmoid()).reshape(b, c, h, w)


class MLCA(nn.Module):
    """The authors', for one image: of more it mixes the global gates."""

    def __init__(self, in_size: int, local_size: int = 5) -> None:
        super().__init__()
        self.local_size, t = local_size, int(abs(math.log(in_size, 2) + 1) / 2)
        k = t if t % 2 else t + 1
        self.conv, self.conv_local = (nn.Conv1d(1, 1, k, padding=(k - 1) // 2, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        size = self.local_size
        local_arv = F.adaptive_avg_pool2d(x, size)
        global_arv = F.adaptive_avg_pool2d(local_arv, 1)
        b, c, m, n = x.shape
        temp_local = local_arv.view(b, c, -1).transpose(-1, -2).reshape(b, 1, -1)
        y_local = self.conv_local(temp_local).reshape(b, size * size, c).transpose(-1, -2).view(b, c, size, size)
        y_global = self.conv(global_arv.view(b, c, -1).transpose(-1, -2)).view(b, -1).transpose(-1, -2).unsqueeze(-1)
        att_global = F.adaptive_avg_pool2d(y_global.sigmoid(), [size, size])
        att_all = F.adaptive_avg_pool2d(att_global * 0.5 + y_local.sigmoid() * 0.5, [m, n])
        return x * att_all


class ParNetAttention(nn.Module):
    def __init__(self, channel: int) -> None:
        super().__init__()
        self.sse = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(channel, channel, 1), nn.Sigmoid())
        self.conv1x1 = nn.Sequential(nn.Conv2d(channel, channel, 1), nn.BatchNorm2d(channel))
        self.conv3x3 = nn.Sequential(nn.Conv2d(channel, channel, 3, padding=1), nn.BatchNorm2d(channel))

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.conv1x1(x) + self.conv3x3(x) + self.sse(x) * x)


class PolarizedSelfAttention(nn.Module):
    """With biases, parallel or sequential."""

    def __init__(self, channel: int, sequential: bool = False) -> None:
        super().__init__()
        half, self.sequential = channel // 2, sequential
        self.ch_wv, self.ch_wq = nn.Conv2d(channel, half, 1), nn.Conv2d(channel, 1, 1)
        self.ch_wz, self.ln = nn.Conv2d(half, channel, 1), nn.LayerNorm(channel)
        self.sp_wv, self.sp_wq = nn.Conv2d(channel, half, 1), nn.Conv2d(channel, half, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        wq = self.ch_wq(x).reshape(b, -1, 1).softmax(1)
        wz = torch.matmul(self.ch_wv(x).reshape(b, c // 2, -1), wq).unsqueeze(-1)
        weight = torch.sigmoid(self.ln(self.ch_wz(wz).reshape(b, c, 1).permute(0, 2, 1)))
        channel_out = weight.permute(0, 2, 1).reshape(b, c, 1, 1) * x
        given = channel_out if self.sequential else x
        wq = F.adaptive_avg_pool2d(self.sp_wq(given), 1).permute(0, 2, 3, 1).reshape(b, 1, c // 2).softmax(-1)
        wz = torch.matmul(wq, self.sp_wv(given).reshape(b, c // 2, -1))
        spatial_out = torch.sigmoid(wz.reshape(b, 1, h, w)) * given
        return spatial_out if self.sequential else spatial_out + channel_out


class ELA(nn.Module):
    """One convolution and norm for rows and columns."""

    def __init__(self, channels: int, kernel: int = 5, groups: int = 16) -> None:
        super().__init__()
        self.con1 = nn.Conv1d(channels, channels, kernel, padding=kernel // 2, groups=channels, bias=False)
        self.GN = nn.GroupNorm(groups, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        x_h = torch.sigmoid(self.GN(self.con1(torch.mean(x, dim=3)))).view(b, c, h, 1)
        x_w = torch.sigmoid(self.GN(self.con1(torch.mean(x, dim=2)))).view(b, c, 1, w)
        return x * x_h * x_w


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


class SPBlock(nn.Module):
    """Strip pooling."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(planes, planes, (3, 1), padding=(1, 0), bias=False)
        self.conv2 = nn.Conv2d(planes, planes, (1, 3), padding=(0, 1), bias=False)
        self.bn1, self.bn2, self.conv3 = nn.BatchNorm2d(planes), nn.BatchNorm2d(planes), nn.Conv2d(planes, planes, 1)

    def forward(self, x: Tensor) -> Tensor:
        h, w = x.shape[2:]
        x1 = self.bn1(self.conv1(F.adaptive_avg_pool2d(x, (h, 1)))).expand(-1, -1, h, w)
        x2 = self.bn2(self.conv2(F.adaptive_avg_pool2d(x, (1, w)))).expand(-1, -1, h, w)
        return x * self.conv3(F.relu(x1 + x2)).sigmoid()


class TripletAttention(nn.Module):
    def __init__(self, norm: bool = True, momentum: float = 0.01) -> None:
        super().__init__()
        self.cw, self.hc, self.hw = (
            nn.Sequential(
                nn.Conv2d(2, 1, 7, padding=3, bias=False),
                nn.BatchNorm2d(1, momentum=momentum) if norm else nn.Identity(),
            )
            for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        def gated(y: Tensor, gate: nn.Module) -> Tensor:
            pooled = torch.cat((torch.max(y, 1)[0].unsqueeze(1), torch.mean(y, 1).unsqueeze(1)), dim=1)
            return y * torch.sigmoid(gate(pooled))

        x_out1 = gated(x.permute(0, 2, 1, 3), self.cw).permute(0, 2, 1, 3)
        x_out2 = gated(x.permute(0, 3, 2, 1), self.hc).permute(0, 3, 2, 1)
        return 1 / 3 * (gated(x, self.hw) + x_out1 + x_out2)


def timm_cbam(channels: int) -> nn.Module:
    return CbamModule(channels)


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


MLP = {"channel.mlp.0": "channelattention.fc1", "channel.mlp.2": "channelattention.fc2"}
CBAM = {**MLP, "spatial.conv": "spatialattention.conv1"}
NO_NORM = {"norm": False, "order": "mean-max"}
COORD = {"conv_h": "conv_h", "conv_w": "conv_w"}
GAM_NAMES = {"fc1": "channel_attention.0", "fc2": "channel_attention.2"}
GAM_NAMES |= {
    name: f"spatial_attention.{place}" for name, place in (("conv1", 0), ("bn1", 1), ("conv2", 3), ("bn2", 4))
}
GAM_FOLDED = {"bn1": "spatial_attention.0", "bn2": "spatial_attention.3"}
PSA = {
    "channel.query.weight": "ch_wq.weight",
    "channel.value": "ch_wv",
    "channel.expand": "ch_wz",
    "channel.norm": "ln",
}
PSA |= {"position.query": "sp_wq", "position.value": "sp_wv"}
LKA_NAMES = {"near": "conv0", "far": "conv_spatial", "mix": "conv1"}
LSK_NAMES = {"near": "conv0", "far": "conv_spatial", "reduce_near": "conv1", "reduce_far": "conv2"}
LSK_NAMES |= {"choose": "conv_squeeze", "mix": "conv"}
TRIPLET = {
    f"{side}.{name}": f"{side}.{place}" for side in ("cw", "hc", "hw") for place, name in enumerate(("conv", "bn"))
}


def projected(names: dict[str, str]) -> dict[str, str]:
    inner = {f"projected.block.{name}": f"spatial_gating_unit.{other}" for name, other in names.items()}
    return {"projected.enter": "proj_1", "projected.leave": "proj_2", **inner}


def shuffle_state(given: State) -> State:
    names = {
        "by_mean.weight": "cweight",
        "by_mean.bias": "cbias",
        "by_position.weight": "sweight",
        "by_position.bias": "sbias",
    }
    return {name: given[other][0] for name, other in names.items()}


PRINTS = [
    Print(
        f"SpatialAttention of kernel {size}",
        "spatial",
        {"kernel_size": size, **NO_NORM},
        lambda channels, size=size: SpatialAlone(size),
        {"conv": "conv1"},
    )  # type: ignore[misc]
    for size in (3, 7)
]
PRINTS += [
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
    Print(
        "CA_Block",
        "coord",
        {"reduction": 16, "least": 1, "bias": False, "activation": "relu"},
        CABlock,
        {"squeeze": "conv_1x1", "bn": "bn", "conv_h": "F_h", "conv_w": "F_w"},
        channels=(16, 64, 128),
    ),
    Print("the authors' CoordAtt", "coord", {}, CoordAtt, {"squeeze": "conv1", "bn": "bn1", **COORD}, {"bn": "conv1"}),
    Print(
        "timm's CoordAttn",
        "coord",
        {"bias": False, "hidden": 8},
        CoordAttn,
        {"squeeze": "conv1", "bn": "bn1", **COORD},
        channels=(64,),
    ),
    Print(
        "timm's SimpleCoordAttn",
        "coord-simple",
        {"hidden": 8},
        SimpleCoordAttn,
        {"squeeze": "fc1", "conv_h": "fc_h", "conv_w": "fc_w"},
        channels=(64,),
    ),
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
    Print(
        "SoftAttention with a gate for each channel",
        "soft",
        {"per_channel": True},
        SoftAttention,
        {"look": "conv1", "weigh": "conv2"},
    ),
    Print(
        "SoftAttention of one layer",
        "soft",
        {"per_channel": True, "layers": 1, "kernel_size": 1},
        partial(SoftAttention, hidden=False),
        {"weigh": "conv1"},
    ),
    Print(
        "ATAC without norms",
        "soft",
        {"per_channel": True, "kernel_size": 1, "bias": False, "least": 1},
        ATAC,
        {"look": "path.0", "weigh": "path.2"},
        channels=(16, 64),
    ),
    Print(
        "the authors' sa_layer",
        "shuffle",
        {"groups": 8},
        ShuffleAttention,
        {"by_position.norm": "gn"},
        derive=shuffle_state,
    ),
    Print("the authors' EMA", "ema", {"groups": 8}, EMA, {"conv1": "conv1x1", "conv3": "conv3x3", "norm": "gn"}),
    Print("the authors' MLCA", "mlca", {}, MLCA, {"local": "conv_local", "whole": "conv"}, images=1, size=(11, 13)),
    Print(
        "ParNetAttention without the norm",
        "parnet",
        {"norm": False},
        ParNetAttention,
        {"fc": "sse.1", "conv1": "conv1x1.0", "bn1": "conv1x1.1", "conv3": "conv3x3.0", "bn3": "conv3x3.1"},
        {"bn1": "conv1x1.0", "bn3": "conv3x3.0"},
    ),
    Print("ParallelPolarizedSelfAttention", "psa-p", {"bias": True}, PolarizedSelfAttention, PSA),
    Print(
        "SequentialPolarizedSelfAttention",
        "psa-s",
        {"bias": True},
        partial(PolarizedSelfAttention, sequential=True),
        PSA,
    ),
    Print(
        "ELA of one convolution",
        "ela",
        {"shared": True, "kernel_size": 5, "groups": 16},
        ELA,
        {"conv_h": "con1", "norm_h": "GN"},
    ),
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
    Print(
        "the authors' SPBlock",
        "strip",
        {},
        SPBlock,
        {"conv_h": "conv1", "bn_h": "bn1", "conv_w": "conv2", "bn_w": "bn2", "last": "conv3"},
    ),
    Print("the authors' TripletAttention", "triplet", {}, lambda channels: TripletAttention(), TRIPLET),
    Print(
        "TripletAttention, momentum 0.1",
        "triplet",
        {"momentum": 0.1},
        lambda channels: TripletAttention(momentum=0.1),
        TRIPLET,
    ),
    Print(
        "TripletAttention without norms",
        "triplet",
        {"norm": False},
        lambda channels: TripletAttention(norm=False),
        TRIPLET,
    ),
]
