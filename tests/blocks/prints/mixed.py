"""Blocks that weigh channels and positions otherwise."""

from __future__ import annotations

import math
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Print, State


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
        att_global = F.adaptive_avg_pool2d(y_global.sigmoid(), (size, size))
        att_all = F.adaptive_avg_pool2d(att_global * 0.5 + y_local.sigmoid() * 0.5, (m, n))
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


class PSACode(nn.Module):
    """The authors' code of polarized self-attention."""

    def __init__(self, planes: int, sequential: bool = False) -> None:
        super().__init__()
        inter, self.sequential = planes // 2, sequential
        self.conv_q_right, self.conv_v_right = (
            nn.Conv2d(planes, 1, 1, bias=False),
            nn.Conv2d(planes, inter, 1, bias=False),
        )
        narrow = inter // 4
        self.conv_up: nn.Module = nn.Conv2d(inter, planes, 1, bias=False)
        if sequential:
            layers = [
                nn.Conv2d(inter, narrow, 1),
                nn.LayerNorm([narrow, 1, 1]),
                nn.ReLU(),
                nn.Conv2d(narrow, planes, 1),
            ]
            self.conv_up = nn.Sequential(*layers)
        self.conv_q_left, self.conv_v_left = (nn.Conv2d(planes, inter, 1, bias=False) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        mask = self.conv_q_right(x).view(n, 1, h * w).softmax(2)
        context = torch.matmul(self.conv_v_right(x).view(n, -1, h * w), mask.transpose(1, 2)).unsqueeze(-1)
        of_channels = x * torch.sigmoid(self.conv_up(context))
        given = of_channels if self.sequential else x
        avg_x = F.adaptive_avg_pool2d(self.conv_q_left(given), 1).view(n, -1, 1).permute(0, 2, 1)
        context = torch.matmul(avg_x, self.conv_v_left(given).view(n, -1, h * w)).softmax(2).view(n, 1, h, w)
        of_positions = given * torch.sigmoid(context)
        return of_positions if self.sequential else of_positions + of_channels


PSA = {
    "channel.query.weight": "ch_wq.weight",
    "channel.value": "ch_wv",
    "channel.expand": "ch_wz",
    "channel.norm": "ln",
}


PSA |= {"position.query": "sp_wq", "position.value": "sp_wv"}


PSA_CODE = {
    "query": "conv_q_right",
    "value": "conv_v_right",
    "position_query": "conv_q_left",
    "position_value": "conv_v_left",
}


PSA_CODE = {f"variant.{name}": other for name, other in PSA_CODE.items()} | {"variant.expand": "conv_up"}


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
    Print("the authors' PSA_p", "psa-p", {"form": "code"}, PSACode, PSA_CODE),
    Print("the authors' PSA_s", "psa-s", {"form": "code"}, partial(PSACode, sequential=True), PSA_CODE),
]
