"""Blocks that weigh rows and columns."""

from __future__ import annotations

import torch
from timm.layers.coord_attn import CoordAttn, SimpleCoordAttn
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Print


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
        of_h, of_w = torch.split(both, [h, w], 3)
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
        gated: Tensor = x * a_w * a_h
        return gated


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
        y: Tensor = x * self.conv3(F.relu(x1 + x2)).sigmoid()
        return y


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


COORD = {"conv_h": "conv_h", "conv_w": "conv_w"}


TRIPLET = {
    f"{side}.{name}": f"{side}.{place}" for side in ("cw", "hc", "hw") for place, name in enumerate(("conv", "bn"))
}


PRINTS = [
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
    Print(
        "ELA of one convolution",
        "ela",
        {"shared": True, "kernel_size": 5, "groups": 16},
        ELA,
        {"conv_h": "con1", "norm_h": "GN"},
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
