"""Attention as transformers for vision have it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from timm.layers.lambda_layer import LambdaLayer
from timm.models.focalnet import FocalModulation
from timm.models.volo import OutlookAttention
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import ShiftedWindowAttention

from .case import Print, State


class OnTokens(nn.Module):
    """Run a module of (N, L, C) on a map."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.module(x.flatten(2).transpose(1, 2))
        return made.transpose(1, 2).reshape(x.shape)


class ChannelsLast(nn.Module):
    """Run a module of (N, H, W, C) on a map."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.module(x.permute(0, 2, 3, 1))
        return made.permute(0, 3, 1, 2)


class MHSA(nn.Module):
    """Bottleneck Transformers' in the form that is copied most: absolute positions, no scale."""

    def __init__(self, n_dims: int, width: int = 6, height: int = 5, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value = (nn.Conv2d(n_dims, n_dims, 1) for _ in range(3))
        self.rel_h = nn.Parameter(torch.randn(1, heads, n_dims // heads, 1, height))
        self.rel_w = nn.Parameter(torch.randn(1, heads, n_dims // heads, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, width, height = x.shape
        q, k, v = (layer(x).view(n, self.heads, c // self.heads, -1) for layer in (self.query, self.key, self.value))
        content = torch.matmul(q.permute(0, 1, 3, 2), k)
        places = (self.rel_h + self.rel_w).view(1, self.heads, c // self.heads, -1).permute(0, 1, 3, 2)
        attention = (content + torch.matmul(places, q)).softmax(-1)
        return torch.matmul(v, attention.permute(0, 1, 3, 2)).view(n, c, width, height)


class RelativeMHSA(nn.Module):
    """Bottleneck Transformers' with relative positions, as the paper has them: nothing added, no biases."""

    def __init__(self, dim: int, fmap_size: tuple[int, int] = (6, 6), heads: int = 4) -> None:
        super().__init__()
        self.heads, width = heads, dim // heads
        self.to_qkv = nn.Conv2d(dim, 3 * dim, 1, bias=False)
        self.rel_height, self.rel_width = (nn.Parameter(torch.randn(2 * side - 1, width)) for side in fmap_size)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        q, k, v = (each.view(n, self.heads, -1, h * w).transpose(2, 3) for each in self.to_qkv(x).chunk(3, dim=1))
        q = q * (c // self.heads) ** -0.5
        places = torch.arange(h * w)
        down = places[None, :] // w - places[:, None] // w + h - 1
        along = places[None, :] % w - places[:, None] % w + w - 1
        table = self.rel_height[down] + self.rel_width[along]
        attn = (q @ k.transpose(2, 3) + torch.einsum("nhid,ijd->nhij", q, table)).softmax(-1)
        y: Tensor = (attn @ v).transpose(2, 3).reshape(n, c, h, w)
        return y


class PlainMHSA(nn.Module):
    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return x + made


class LinearSelfAttention(nn.Module):
    """MobileViTv2's, over the whole map."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.qkv_proj, self.out_proj = nn.Conv2d(embed_dim, 1 + 2 * embed_dim, 1), nn.Conv2d(embed_dim, embed_dim, 1)
        self.embed_dim = embed_dim

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv_proj(x).flatten(2).split([1, self.embed_dim, self.embed_dim], dim=1)
        context = (key * F.softmax(query, dim=-1)).sum(-1, keepdim=True)
        y: Tensor = self.out_proj((F.relu(value) * context).view(x.shape))
        return y


def rows(given: State, name: str, parts: tuple[int, ...], names: tuple[str, ...], to: str = "") -> State:
    """Return a layer's weights, and its biases where it has them, taken apart."""
    found: State = {}
    for kind in ("weight", "bias"):
        if f"{name}.{kind}" in given:
            pieces = torch.split(given[f"{name}.{kind}"], list(parts))
            found |= {f"{to}{each}.{kind}": piece for each, piece in zip(names, pieces, strict=True)}
    return found


def tokens(module: Callable[..., nn.Module]) -> Callable[[int], nn.Module]:
    return lambda channels: OnTokens(module(channels))


def absolute_state(given: State) -> State:
    tables = {"attention.of_rows": "rel_w", "attention.of_columns": "rel_h"}
    return {name: given[other][0].flatten(2).transpose(1, 2) for name, other in tables.items()}


def relative_state(given: State) -> State:
    return rows(given, "to_qkv", (32, 32, 32), ("query", "key", "value"), "attention.")


def multihead_state(given: State) -> State:
    whole = {f"in.{kind}": given[f"module.attention.in_proj_{kind}"] for kind in ("weight", "bias")}
    return rows(whole, "in", (32, 32, 32), ("query", "key", "value"), "attention.")


def separable_state(given: State) -> State:
    return rows(given, "qkv_proj", (1, 32, 32), ("score", "key", "value"))


def lambda_state(given: State) -> State:
    found = rows(given, "qkv", (64, 16, 8), ("query", "key", "value"))
    return found | {f"around.{kind}": given[f"conv_lambda.{kind}"] for kind in ("weight", "bias")}


def focal_state(given: State) -> State:
    return rows(given, "f", (32, 32, 4), ("query", "context", "gates"))


def outlook_state(given: State) -> State:
    """Four heads are worked on in four parts."""
    value, weigh = (
        rows(given, f"module.{name}", (size,) * 4, ("0", "1", "2", "3")) for name, size in (("v", 8), ("attn", 81))
    )
    kinds = {"value": value, "weigh": weigh}
    return {f"parts.{key[0]}.{name}{key[1:]}": each for name, found in kinds.items() for key, each in found.items()}


def window_state(given: State) -> State:
    """Four heads are worked on in four parts."""
    weight, bias = given["module.qkv.weight"].view(3, 4, 8, 32), given["module.qkv.bias"].view(3, 4, 8)
    found: State = {}
    for head in range(4):
        found[f"parts.{head}.qkv.weight"] = weight[:, head]
        found[f"parts.{head}.bias"] = torch.cat((bias[0, head], bias[2, head]))
        found[f"parts.{head}.table"] = given["module.relative_position_bias_table"][:, head]
    return found


def swin(channels: int, shift: int = 0) -> nn.Module:
    return ChannelsLast(ShiftedWindowAttention(channels, [4, 4], [shift, shift], 4))


PRINTS = [
    Print(
        "MHSA of Bottleneck Transformers, absolute",
        "mhsa",
        {"heads": 4, "position": "absolute", "window": 6, "scaled": False, "project": False, "residual": False},
        partial(MHSA, width=6, height=6),
        {f"attention.{name}": name for name in ("query", "key", "value")},
        derive=absolute_state,
        size=(6, 6),
    ),
    Print(
        "MHSA of Bottleneck Transformers, relative",
        "botnet",
        {"heads": 4, "window": 6, "bias": False, "project": False, "residual": False},
        RelativeMHSA,
        {"attention.of_rows": "rel_height", "attention.of_columns": "rel_width"},
        derive=relative_state,
        size=(6, 6),
    ),
    Print(
        "mhsa as botnet",
        "mhsa",
        {"heads": 4, "window": 6, "position": "relative", "bias": False, "project": False, "residual": False},
        RelativeMHSA,
        {"attention.of_rows": "rel_height", "attention.of_columns": "rel_width"},
        derive=relative_state,
        size=(6, 6),
    ),
    Print(
        "torch's MultiheadAttention, added",
        "mhsa",
        {"heads": 4},
        tokens(PlainMHSA),
        {"attention.project": "module.attention.out_proj"},
        derive=multihead_state,
    ),
    Print(
        "MobileViTv2's LinearSelfAttention",
        "separable",
        {"residual": False},
        LinearSelfAttention,
        {"project": "out_proj"},
        derive=separable_state,
    ),
    Print(
        "timm's LambdaLayer",
        "lambda",
        {"bias": True, "kernel_size": 9},
        LambdaLayer,
        {"norm_q": "norm_q", "norm_v": "norm_v"},
        derive=lambda_state,
    ),
    Print(
        "FocalNet's FocalModulation",
        "focal",
        {"norm": False, "residual": False},
        partial(FocalModulation, focal_window=3, focal_level=3),
        {"modulate": "h", "project": "proj", **{f"levels.{level}": f"focal_layers.{level}.0" for level in range(3)}},
        derive=focal_state,
    ),
    Print(
        "VOLO's OutlookAttention",
        "outlook",
        {"heads": 4, "bias": True, "norm": False, "residual": False},
        lambda channels: ChannelsLast(OutlookAttention(channels, 4, qkv_bias=True)),
        {"project": "module.proj"},
        derive=outlook_state,
    ),
    *[
        Print(
            f"Swin's window attention{', shifted' if shift else ''}",
            "window",
            {"window": 4, "heads": 4, "bias": True, "norm": False, "residual": False, "shift": shift > 0},
            partial(swin, shift=shift),
            {"project": "module.proj"},
            derive=window_state,
            size=(8, 12),
        )
        for shift in (0, 2)
    ],
]
