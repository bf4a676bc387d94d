"""Self-attention of convolutional networks."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from timm.layers.non_local_attn import BatNonLocalAttn, NonLocalAttn
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Print, State


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


def bat_state(given: State) -> State:
    pairs = {"rows": "ba.conv_p", "columns": "ba.conv_q"}
    return {f"{name}.{kind}": given[f"{other}.{kind}"] for name, other in pairs.items() for kind in ("weight", "bias")}


def nonlocal_bias(given: State) -> Tensor:
    """Return what the biases of g and W add before the norm: the weights of positions add up to one."""
    return given["W.0.weight"].flatten(1) @ given["g.0.bias"] + given["W.0.bias"]


AMONG = {
    "among.query": "query_conv",
    "among.key.weight": "key_conv.weight",
    "among.value": "value_conv",
    "gamma": "gamma",
}


NONLOCAL = {"theta": "theta", "phi.weight": "phi.weight", "g.weight": "g.0.weight", "project": "W.0", "bn": "W.1"}


BAT = {"reduce": "conv1.conv", "norm": "conv1.bn", "look": "ba.conv1.conv", "norm_o": "ba.conv1.bn"}


BAT |= {"mix": "ba.conv2.conv", "norm_m": "ba.conv2.bn", "expand": "conv2.conv", "last": "conv2.bn"}


PRINTS = [
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
    Print(
        "timm's NonLocalAttn, scaled by all channels",
        "nonlocal",
        {"reduction": 8, "scaled": True, "scale": "channels"},
        NonLocalAttn,
        {"theta": "t", "phi.weight": "p.weight", "g.weight": "g.weight", "project.weight": "z.weight", "bn": "norm"},
        {"bn": lambda given: given["z.weight"].flatten(1) @ given["g.bias"] + given["z.bias"]},
        channels=(64, 128),
    ),
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
