"""Self-attention in its many forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from timm.layers.lambda_layer import LambdaLayer
from timm.layers.non_local_attn import BatNonLocalAttn
from timm.models.focalnet import FocalModulation
from timm.models.volo import OutlookAttention
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.models.swin_transformer import ShiftedWindowAttention

from .case import Print, State


class DoubleAttention(nn.Module):
    """A²-Net's, which adds no features."""

    def __init__(self, in_channels: int, c_m: int = 8, c_n: int = 6) -> None:
        super().__init__()
        self.c_m, self.c_n = c_m, c_n
        self.convA, self.convB, self.convV = (nn.Conv2d(in_channels, width, 1) for width in (c_m, c_n, c_n))
        self.conv_reconstruct = nn.Conv2d(c_m, in_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        b, _, h, w = x.shape
        maps = F.softmax(self.convB(x).view(b, self.c_n, -1), dim=-1)
        vectors = F.softmax(self.convV(x).view(b, self.c_n, -1), dim=1)
        descriptors = torch.bmm(self.convA(x).view(b, self.c_m, -1), maps.permute(0, 2, 1))
        y: Tensor = self.conv_reconstruct(descriptors.matmul(vectors).view(b, self.c_m, h, w))
        return y


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


class AFTSimple(nn.Module):
    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.fc_q, self.fc_k, self.fc_v = (nn.Linear(d_model, d_model) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        k = torch.exp(self.fc_k(x))
        return torch.sigmoid(self.fc_q(x)) * (k * self.fc_v(x)).sum(1, keepdim=True) / k.sum(1, keepdim=True)


class MemoryAttention(nn.Module):
    """External attention by its memories alone."""

    def __init__(self, d_model: int, S: int = 8) -> None:
        super().__init__()
        self.mk, self.mv = nn.Linear(d_model, S, bias=False), nn.Linear(S, d_model, bias=False)

    def forward(self, queries: Tensor) -> Tensor:
        attn = self.mk(queries).softmax(1)
        made: Tensor = self.mv(attn / torch.sum(attn, dim=2, keepdim=True))
        return made


class ExternalAttention(nn.Module):
    """The authors' network's."""

    def __init__(self, c: int, k: int = 16) -> None:
        super().__init__()
        self.conv1, self.linear_0 = nn.Conv2d(c, c, 1), nn.Conv1d(c, k, 1, bias=False)
        self.linear_1 = nn.Conv1d(k, c, 1, bias=False)
        self.conv2 = nn.Sequential(nn.Conv2d(c, c, 1, bias=False), nn.BatchNorm2d(c))

    def forward(self, x: Tensor) -> Tensor:
        attn = F.softmax(self.linear_0(self.conv1(x).flatten(2)), dim=-1)
        attn = attn / (1e-9 + attn.sum(dim=1, keepdim=True))
        return F.relu(self.conv2(self.linear_1(attn).view(x.shape)) + x)


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
        return (attn @ v).transpose(2, 3).reshape(n, c, h, w)


class PlainMHSA(nn.Module):
    def __init__(self, dim: int, heads: int = 4) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.attention(x, x, x, need_weights=False)[0]
        return x + made


class EfficientAttention(nn.Module):
    def __init__(self, in_channels: int, inner: int = 16, head_count: int = 2) -> None:
        super().__init__()
        self.head_count = head_count
        self.keys, self.queries, self.values = (nn.Conv2d(in_channels, inner, 1) for _ in range(3))
        self.reprojection = nn.Conv2d(inner, in_channels, 1)

    def forward(self, input_: Tensor) -> Tensor:
        n, _, h, w = input_.shape
        keys, queries, values = (layer(input_).flatten(2) for layer in (self.keys, self.queries, self.values))
        attended = []
        parts = (each.chunk(self.head_count, 1) for each in (keys, queries, values))
        for key, query, value in zip(*parts, strict=True):
            context = F.softmax(key, dim=2) @ value.transpose(1, 2)
            attended.append((context.transpose(1, 2) @ F.softmax(query, dim=1)).reshape(n, -1, h, w))
        y: Tensor = self.reprojection(torch.cat(attended, dim=1)) + input_
        return y


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


class SelfAttn(nn.Module):
    """SAGAN's with biases, which is DANet's position half too."""

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.query_conv, self.key_conv = nn.Conv2d(in_dim, in_dim // 8, 1), nn.Conv2d(in_dim, in_dim // 8, 1)
        self.value_conv, self.gamma = nn.Conv2d(in_dim, in_dim, 1), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        energy = torch.bmm(self.query_conv(x).view(n, -1, h * w).permute(0, 2, 1), self.key_conv(x).view(n, -1, h * w))
        out = torch.bmm(self.value_conv(x).view(n, -1, h * w), energy.softmax(-1).permute(0, 2, 1))
        y: Tensor = self.gamma * out.view(n, c, h, w) + x
        return y


class CAM(nn.Module):
    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(2)
        energy = torch.bmm(flat, flat.transpose(1, 2))
        energy = torch.max(energy, -1, keepdim=True)[0].expand_as(energy) - energy
        y: Tensor = self.gamma * torch.bmm(energy.softmax(-1), flat).view(x.shape) + x
        return y


class DualAttention(nn.Module):
    """Both halves of the same features; the features are counted once."""

    def __init__(self, in_dim: int) -> None:
        super().__init__()
        self.pam, self.cam = SelfAttn(in_dim), CAM(in_dim)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pam(x) + self.cam(x) - x
        return y


class CrissCross(nn.Module):
    def __init__(self, in_dim: int, recurrence: int = 2) -> None:
        super().__init__()
        self.query_conv, self.key_conv = nn.Conv2d(in_dim, in_dim // 8, 1), nn.Conv2d(in_dim, in_dim // 8, 1)
        self.value_conv, self.gamma, self.recurrence = (
            nn.Conv2d(in_dim, in_dim, 1),
            nn.Parameter(torch.zeros(1)),
            recurrence,
        )

    def once(self, x: Tensor) -> Tensor:
        b, _, height, width = x.shape
        q, k, v = self.query_conv(x), self.key_conv(x), self.value_conv(x)
        q_h, k_h, v_h = (each.permute(0, 3, 1, 2).reshape(b * width, -1, height) for each in (q, k, v))
        q_w, k_w, v_w = (each.permute(0, 2, 1, 3).reshape(b * height, -1, width) for each in (q, k, v))
        itself = -torch.diag(torch.tensor(float("inf")).repeat(height), 0).unsqueeze(0)
        energy_h = (torch.bmm(q_h.permute(0, 2, 1), k_h) + itself).view(b, width, height, height).permute(0, 2, 1, 3)
        energy_w = torch.bmm(q_w.permute(0, 2, 1), k_w).view(b, height, width, width)
        concate = torch.cat([energy_h, energy_w], 3).softmax(3)
        att_h = concate[..., :height].permute(0, 2, 1, 3).reshape(b * width, height, height)
        att_w = concate[..., height:].reshape(b * height, width, width)
        out_h = torch.bmm(v_h, att_h.permute(0, 2, 1)).view(b, width, -1, height).permute(0, 2, 3, 1)
        out_w = torch.bmm(v_w, att_w.permute(0, 2, 1)).view(b, height, -1, width).permute(0, 2, 1, 3)
        y: Tensor = self.gamma * (out_h + out_w) + x
        return y

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.recurrence):
            x = self.once(x)
        return x


class NonLocal(nn.Module):
    """The embedded Gaussian with maxima of 2×2, with or without a norm; `value` follows g."""

    def __init__(
        self,
        in_channels: int,
        sub_sample: bool = True,
        bn_layer: bool = True,
        bias: bool = True,
        value: Callable[[int], list[nn.Module]] = lambda width: [],
    ) -> None:
        super().__init__()
        inter, self.sub_sample = in_channels // 2, sub_sample
        self.theta, self.phi = nn.Conv2d(in_channels, inter, 1, bias=bias), nn.Conv2d(in_channels, inter, 1, bias=bias)
        self.g = nn.Sequential(nn.Conv2d(in_channels, inter, 1, bias=bias), *value(inter))
        self.W = nn.Sequential(nn.Conv2d(inter, in_channels, 1), *([nn.BatchNorm2d(in_channels)] if bn_layer else []))

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        phi, g = self.phi(x), self.g(x)
        phi, g = (F.max_pool2d(phi, 2), F.max_pool2d(g, 2)) if self.sub_sample else (phi, g)
        f = torch.matmul(self.theta(x).flatten(2).permute(0, 2, 1), phi.flatten(2)).softmax(-1)
        y = torch.matmul(f, g.flatten(2).permute(0, 2, 1)).permute(0, 2, 1).reshape(n, -1, h, w)
        z: Tensor = self.W(y) + x
        return z


class CotLayer(nn.Module):
    """The authors'."""

    def __init__(self, dim: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.kernel_size, self.sets = kernel_size, dim // 8
        wide = kernel_size**2 * self.sets
        around = kernel_size // 2
        self.key_embed = nn.Sequential(
            nn.Conv2d(dim, dim, kernel_size, padding=around, groups=4, bias=False), nn.BatchNorm2d(dim)
        )
        self.embed = nn.Sequential(
            nn.Conv2d(2 * dim, dim // 2, 1, bias=False),
            nn.BatchNorm2d(dim // 2),
            nn.ReLU(),
            nn.Conv2d(dim // 2, wide, 1),
            nn.GroupNorm(self.sets, wide),
        )
        self.conv1x1 = nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim))
        self.bn, narrow = nn.BatchNorm2d(dim), max(dim // 2, 32)
        self.se = nn.Sequential(
            nn.Conv2d(dim, narrow, 1), nn.BatchNorm2d(narrow), nn.ReLU(), nn.Conv2d(narrow, 2 * dim, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        k = F.relu(self.key_embed(x))
        weights = self.embed(torch.cat([x, k], dim=1)).view(b, self.sets, self.kernel_size**2, h, w)
        windows = F.unfold(self.conv1x1(x), self.kernel_size, padding=self.kernel_size // 2).view(b, c, -1, h, w)
        mixed = (windows * weights[:, torch.arange(c) % self.sets]).sum(
            2
        )  # channel c has the weights of c modulo the sets
        x = torch.stack([F.silu(self.bn(mixed)), k], dim=2)
        attn = self.se(x.sum(2).mean((2, 3), keepdim=True)).view(b, c, 2).softmax(2)
        return (x * attn.view(b, c, 2, 1, 1)).sum(2)


class CoTAttention(nn.Module):
    """In the form that is copied most."""

    def __init__(self, dim: int, kernel_size: int = 3) -> None:
        super().__init__()
        self.kernel_size, around, narrow = kernel_size, kernel_size // 2, 2 * dim // 4
        self.key_embed = nn.Sequential(
            nn.Conv2d(dim, dim, kernel_size, padding=around, groups=4, bias=False), nn.BatchNorm2d(dim), nn.ReLU()
        )
        self.value_embed = nn.Sequential(nn.Conv2d(dim, dim, 1, bias=False), nn.BatchNorm2d(dim))
        self.attention_embed = nn.Sequential(
            nn.Conv2d(2 * dim, narrow, 1, bias=False),
            nn.BatchNorm2d(narrow),
            nn.ReLU(),
            nn.Conv2d(narrow, kernel_size**2 * dim, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        bs, c, h, w = x.shape
        k1, v = self.key_embed(x), self.value_embed(x).view(bs, c, -1)
        att = self.attention_embed(torch.cat([k1, x], dim=1)).reshape(bs, c, self.kernel_size**2, h, w)
        k2 = F.softmax(att.mean(2).view(bs, c, -1), dim=-1) * v
        y: Tensor = k1 + k2.view(bs, c, h, w)
        return y


def rows(given: State, name: str, parts: tuple[int, ...], names: tuple[str, ...], to: str = "") -> State:
    """Return a layer's weights, and its biases where it has them, taken apart."""
    found: State = {}
    for kind in ("weight", "bias"):
        if f"{name}.{kind}" in given:
            pieces = given[f"{name}.{kind}"].split(list(parts))
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


def cot_state(given: State) -> State:
    """The authors' two shares of a channel are neighbours."""
    return {
        f"fuse.choose.{kind}": torch.cat((given[f"se.3.{kind}"][::2], given[f"se.3.{kind}"][1::2]))
        for kind in ("weight", "bias")
    }


def bat_state(given: State) -> State:
    pairs = {"rows": "ba.conv_p", "columns": "ba.conv_q"}
    return {f"{name}.{kind}": given[f"{other}.{kind}"] for name, other in pairs.items() for kind in ("weight", "bias")}


def nonlocal_bias(given: State) -> Tensor:
    """Return what the biases of g and W add before the norm: the weights of positions add up to one."""
    return given["W.0.weight"].flatten(1) @ given["g.0.bias"] + given["W.0.bias"]


def swin(channels: int, shift: int = 0) -> nn.Module:
    return ChannelsLast(ShiftedWindowAttention(channels, [4, 4], [shift, shift], 4))


AMONG = {
    "among.query": "query_conv",
    "among.key.weight": "key_conv.weight",
    "among.value": "value_conv",
    "gamma": "gamma",
}
NONLOCAL = {"theta": "theta", "phi.weight": "phi.weight", "g.weight": "g.0.weight", "project": "W.0", "bn": "W.1"}
COT = {"key": "key_embed.0", "norm_k": "key_embed.1", "reduce": "embed.0", "norm_a": "embed.1", "weigh": "embed.3"}
COT |= {
    "norm_w": "embed.4",
    "value": "conv1x1.0",
    "norm_v": "conv1x1.1",
    "norm_d": "bn",
    "fuse.reduce": "se.0",
    "fuse.norm": "se.1",
}
PLAIN_COT = {"key": "key_embed.0", "norm_k": "key_embed.1", "value": "value_embed.0", "norm_v": "value_embed.1"}
PLAIN_COT |= {"reduce": "attention_embed.0", "norm_a": "attention_embed.1", "weigh": "attention_embed.3"}
BAT = {"reduce": "conv1.conv", "norm": "conv1.bn", "look": "ba.conv1.conv", "norm_o": "ba.conv1.bn"}
BAT |= {"mix": "ba.conv2.conv", "norm_m": "ba.conv2.bn", "expand": "conv2.conv", "last": "conv2.bn"}
PRINTS = [
    Print(
        "DoubleAttention",
        "a2",
        {"features": 8, "descriptors": 6, "residual": False},
        DoubleAttention,
        {"feature": "convA", "gather": "convB", "distribute": "convV", "project": "conv_reconstruct"},
    ),
    Print(
        "AFT, simple",
        "aft",
        {"project": False, "residual": False},
        tokens(AFTSimple),
        {"query": "module.fc_q", "key": "module.fc_k", "value": "module.fc_v"},
    ),
    Print(
        "ExternalAttention of memories",
        "external",
        {"size": 8, "project": False, "residual": False},
        tokens(MemoryAttention),
        {"key_memory": "module.mk", "value_memory": "module.mv"},
    ),
    Print(
        "the authors' External_attention",
        "external",
        {"size": 16, "norm": True, "activation": "relu", "eps": 1e-9},
        ExternalAttention,
        {"query": "conv1", "key_memory": "linear_0", "value_memory": "linear_1", "project": "conv2.0", "bn": "conv2.1"},
    ),
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
        "the authors' EfficientAttention",
        "efficient",
        {"heads": 2},
        EfficientAttention,
        {"query": "queries", "key": "keys", "value": "values", "project": "reprojection"},
    ),
    Print(
        "MobileViTv2's LinearSelfAttention",
        "separable",
        {"residual": False},
        LinearSelfAttention,
        {"project": "out_proj"},
        derive=separable_state,
    ),
    Print("Self_Attn of SAGAN with biases", "self", {"bias": True}, SelfAttn, AMONG),
    Print("DANet's PAM_Module", "pam", {}, SelfAttn, AMONG),
    Print("DANet's CAM_Module", "cam", {}, CAM, {"gamma": "gamma"}),
    Print(
        "DANet's halves of one map",
        "danet",
        {},
        DualAttention,
        {"alpha": "pam.gamma", "beta": "cam.gamma"}
        | {name: f"pam.{other}" for name, other in AMONG.items() if name != "gamma"},
    ),
    Print(
        "CCNet's CrissCrossAttention, twice",
        "crisscross",
        {},
        CrissCross,
        {"query": "query_conv", "key": "key_conv", "value": "value_conv", "gamma": "gamma"},
    ),
    Print(
        "NONLocalBlock2D",
        "nonlocal",
        {"subsample": True, "ceil_mode": False},
        NonLocal,
        NONLOCAL,
        {"bn": nonlocal_bias},
        size=(7, 5),
    ),
    Print(
        "NONLocalBlock2D of all positions",
        "nonlocal",
        {},
        partial(NonLocal, sub_sample=False),
        NONLOCAL,
        {"bn": nonlocal_bias},
    ),
    Print(
        "non-local with a norm and a ReLU in g",
        "nonlocal",
        {"value_norm": True, "norm": False},
        partial(NonLocal, sub_sample=False, bn_layer=False, value=lambda width: [nn.BatchNorm2d(width), nn.ReLU()]),
        {**NONLOCAL, "g_norm.0": "g.1"},
        {"g_norm.0": "g.0"},
    ),
    Print("the authors' CotLayer", "cot", {"interleaved": True}, CotLayer, COT, {"fuse.norm": "se.0"}, cot_state),
    Print("CoTAttention", "cot", {"form": "plain"}, CoTAttention, PLAIN_COT),
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
    Print(
        "timm's BatNonLocalAttn",
        "bat",
        {},
        partial(BatNonLocalAttn, drop_rate=0.0),
        BAT,
        derive=bat_state,
        size=(14, 7),
    ),
]
