"""Blocks of two inputs."""

from __future__ import annotations

from functools import partial

import torch
from timm.layers.selective_kernel import SelectiveKernelAttn
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Print, State


def bottleneck(channels: int, narrow: int, pooled: bool) -> nn.Sequential:
    first, last = nn.Conv2d(channels, narrow, 1), nn.Conv2d(narrow, channels, 1)
    pool = nn.AdaptiveAvgPool2d(1) if pooled else nn.Identity()
    return nn.Sequential(pool, first, nn.BatchNorm2d(narrow), nn.ReLU(), last, nn.BatchNorm2d(channels))


class AFF(nn.Module):
    """The authors', twice the paper's."""

    def __init__(self, channels: int, r: int = 4) -> None:
        super().__init__()
        self.local_att, self.global_att = (bottleneck(channels, channels // r, pooled) for pooled in (False, True))

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        xa = x + residual
        wei = torch.sigmoid(self.local_att(xa) + self.global_att(xa))
        return 2 * x * wei + 2 * residual * (1 - wei)


class IAFF(nn.Module):
    """The authors', with one global half for both iterations."""

    def __init__(self, channels: int, r: int = 4) -> None:
        super().__init__()
        self.local_att, self.global_att = (bottleneck(channels, channels // r, pooled) for pooled in (False, True))
        self.local_att2 = bottleneck(channels, channels // r, False)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        xa = x + residual
        wei = torch.sigmoid(self.local_att(xa) + self.global_att(xa))
        xi = x * wei + residual * (1 - wei)
        wei2 = torch.sigmoid(self.local_att2(xi) + self.global_att(xi))
        return x * wei2 + residual * (1 - wei2)


class AttentionBlock(nn.Module):
    """Attention U-Net's gate; with norms, or as in the authors' grid attention without."""

    def __init__(self, f: int, norm: bool = True) -> None:
        super().__init__()
        narrow = f // 2
        layer = nn.BatchNorm2d if norm else lambda width: nn.Identity()
        self.W_g = nn.Sequential(nn.Conv2d(f, narrow, 1), layer(narrow))
        self.W_x = nn.Sequential(nn.Conv2d(f, narrow, 1, bias=norm), layer(narrow))
        self.psi = nn.Sequential(nn.Conv2d(narrow, 1, 1), layer(1), nn.Sigmoid())

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        y: Tensor = x * self.psi(F.relu(self.W_g(g) + self.W_x(x)))
        return y


class SKFusion(nn.Module):
    """Without a norm and a ReLU."""

    def __init__(self, features: int, reduction: int = 4, least: int = 8) -> None:
        super().__init__()
        d = max(least, features // reduction)
        self.fc, self.fcs = nn.Linear(features, d), nn.ModuleList(nn.Linear(d, features) for _ in range(2))

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        z = self.fc((x + y).mean(-1).mean(-1))
        weights = torch.stack([fc(z) for fc in self.fcs], dim=1).softmax(1)[..., None, None]
        return (torch.stack((x, y), 1) * weights).sum(1)


class TimmSK(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attn = SelectiveKernelAttn(channels, 2, 32)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        paths = torch.stack((x, y), 1)
        fused: Tensor = (paths * self.attn(paths)).sum(1)
        return fused


class MDAF(nn.Module):
    """The authors': what an article prints of it does not run."""

    def __init__(self, dim: int, num_heads: int = 8) -> None:
        super().__init__()
        self.num_heads, self.norm1, self.norm2 = num_heads, nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.project_out = nn.Conv2d(dim, dim, 1)
        self.first, self.second = (
            nn.ModuleList(
                nn.Conv2d(dim, dim, kernel, padding=(kernel[0] // 2, kernel[1] // 2), groups=dim)
                for kernel in [(1, 7), (1, 11), (1, 21), (7, 1), (11, 1), (21, 1)]
            )
            for _ in range(2)
        )

    def forward(self, x1: Tensor, x2: Tensor) -> Tensor:
        b, c, h, w = x1.shape

        def by_rows(x: Tensor) -> Tensor:
            return x.view(b, self.num_heads, -1, h, w).permute(0, 1, 3, 4, 2).flatten(3)

        def by_columns(x: Tensor) -> Tensor:
            return x.view(b, self.num_heads, -1, h, w).permute(0, 1, 4, 3, 2).flatten(3)

        x1, x2 = (norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2) for norm, x in ((self.norm1, x1), (self.norm2, x2)))
        out1 = self.project_out(sum(conv(x1) for conv in self.first))
        out2 = self.project_out(sum(conv(x2) for conv in self.second))
        q1, k1, v1 = F.normalize(by_rows(out2), dim=-1), F.normalize(by_rows(out1), dim=-1), by_rows(out1)
        q2, k2, v2 = F.normalize(by_columns(out1), dim=-1), F.normalize(by_columns(out2), dim=-1), by_columns(out2)
        out3 = (q1 @ k1.transpose(-2, -1)).softmax(-1) @ v1 + q1
        out4 = (q2 @ k2.transpose(-2, -1)).softmax(-1) @ v2 + q2
        out3 = out3.view(b, self.num_heads, h, w, -1).permute(0, 1, 4, 2, 3).reshape(b, c, h, w)
        out4 = out4.view(b, self.num_heads, w, h, -1).permute(0, 1, 4, 3, 2).reshape(b, c, h, w)
        y: Tensor = self.project_out(out3) + self.project_out(out4) + x1 + x2
        return y


def branch(ours: str, theirs: str) -> dict[str, str]:
    return {
        f"{ours}.{name}": f"{theirs}.{place}"
        for name, place in (("reduce", 1), ("norm", 2), ("expand", 4), ("last", 5))
    }


def folds(ours: str, theirs: str) -> dict[str, str]:
    return {f"{ours}.norm": f"{theirs}.1", f"{ours}.last": f"{theirs}.4"}


def fusion_state(given: State) -> State:
    return {
        f"choose.{kind}": torch.cat([given[f"fcs.{index}.{kind}"] for index in (0, 1)]) for kind in ("weight", "bias")
    }


AFF_HALVES = (("context.near", "local_att"), ("context.whole", "global_att"))
IAFF_HALVES = (("first.near", "local_att"), ("first.whole", "global_att"), ("second.near", "local_att2"))
GATE = {"conv_g": "W_g.0", "bn_g": "W_g.1", "conv_x": "W_x.0", "bn_x": "W_x.1", "psi": "psi.0", "bn": "psi.1"}
MDAF_NAMES = {"norm_x": "norm1", "norm_y": "norm2", "strips_x": "first", "strips_y": "second", "project": "project_out"}
PRINTS = [
    Print(
        "the authors' AFF",
        "aff",
        {"doubled": True},
        AFF,
        {name: other for halves in AFF_HALVES for name, other in branch(*halves).items()},
        {name: other for halves in AFF_HALVES for name, other in folds(*halves).items()},
    ),
    Print(
        "the authors' iAFF",
        "iaff",
        {"shared": True},
        IAFF,
        {name: other for halves in IAFF_HALVES for name, other in branch(*halves).items()},
        {name: other for halves in IAFF_HALVES for name, other in folds(*halves).items()},
    ),
    Print("Attention_block", "gate", {}, AttentionBlock, GATE, {"bn_g": "W_g.0", "bn_x": "W_x.0", "bn": "psi.0"}),
    Print(
        "Attention_block at two channels",
        "gate",
        {"least": 1},
        AttentionBlock,
        GATE,
        {"bn_g": "W_g.0", "bn_x": "W_x.0", "bn": "psi.0"},
        channels=(2,),
    ),
    Print("grid attention at one size", "gate", {"norm": False}, partial(AttentionBlock, norm=False), GATE),
    Print(
        "SK without a norm and a ReLU",
        "sk",
        {"reduction": 4, "least": 8, "norm": False, "activation": "identity", "bias": True},
        SKFusion,
        {"reduce": "fc"},
        derive=fusion_state,
    ),
    Print(
        "timm's SelectiveKernelAttn",
        "sk",
        {},
        TimmSK,
        {"reduce": "attn.fc_reduce", "norm": "attn.bn", "choose": "attn.fc_select"},
    ),
    Print("the authors' MDAF", "mdaf", {}, MDAF, MDAF_NAMES, size=(9, 8)),
]
