"""The contextual transformer block."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .case import Print, State


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
        y: Tensor = (x * attn.view(b, c, 2, 1, 1)).sum(2)
        return y


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


def cot_state(given: State) -> State:
    """The authors' two shares of a channel are neighbours."""
    return {
        f"fuse.choose.{kind}": torch.cat((given[f"se.3.{kind}"][::2], given[f"se.3.{kind}"][1::2]))
        for kind in ("weight", "bias")
    }


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


PRINTS = [
    Print("the authors' CotLayer", "cot", {"interleaved": True}, CotLayer, COT, {"fuse.norm": "se.0"}, cot_state),
    Print("CoTAttention", "cot", {"form": "plain"}, CoTAttention, PLAIN_COT),
]
