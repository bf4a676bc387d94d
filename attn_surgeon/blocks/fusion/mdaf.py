"""Multiscale dual-representation alignment filter (Yang et al., 2024, "SFFNet", for two views of one image).

u, v = P(strips(ln(x))), P(strips(ln(y)))       strips: the sum of depthwise 1×k and k×1 convolutions, k = 7, 11, 21
r = softmax(v̂ ûᵀ) u + v̂                         over rows: a token holds the channels of one head along one row
c = softmax(û v̂ᵀ) v + û                         over columns; â is a with each token's length 1
f = P(r) + P(c) + ln(x) + ln(y)                 P: one 1×1 convolution, used four times

f contains the normalised inputs and not x, so its identity is x + γ(f − x) with γ = 0. The module that articles print
does not run; this is the one of the authors' repository, with the same weights.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor

LENGTHS = (7, 11, 21)
CARD = Card(
    name="mdaf",
    title="Multiscale Dual-Representation Alignment Filter",
    paper="Yang et al. 2024, SFFNet: A Wavelet-Based Spatial and Frequency Domain Fusion Network for Remote Sensing "
    "Segmentation",
    idea="fuse two views of one image by cross-attention along rows and along columns",
    formula="f = P(softmax(v̂ ûᵀ) u + v̂) + P(softmax(û v̂ᵀ) v + û) + ln(x) + ln(y), u = P(strips(ln(x))), v of y;"
    " tokens are rows, then columns; û: tokens of length 1; P: one 1×1 convolution",
    identity="x + γ(f − x), γ = 0 for each channel; f is the authors' repository's, the articles' print does not run",
    parameters="C² + 173C + C",
    macs="(4C² + 156C + 2C(H + W))·HW",
    nodes=73,
    usual_sites="where two branches, or a skip and its decoder, are about to be joined",
    kind="two inputs",
    reach="map",
    options=(
        Option("heads", None, "groups of channels, each on its own; the largest divisor of C up to 8", minimum=1),
    ),
)


@register(CARD)
class AlignmentFilter(nn.Module):
    """Fuse (N, C, H, W) features with others of the same shape by attention along rows and along columns.

    Raises ValueError where the heads do not divide the channels.
    """

    def __init__(self, channels: int, *, heads: int | None = None, init: str = "identity") -> None:
        super().__init__()
        self.heads = divisor(channels, heads, 8, "heads")
        self.norm_x, self.norm_y = nn.LayerNorm(channels), nn.LayerNorm(channels)
        self.strips_x, self.strips_y = _strips(channels), _strips(channels)
        self.project = nn.Conv2d(channels, channels, 1)
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x with the fusion of both blended in."""
        normal_x, normal_y = _over_channels(self.norm_x, x), _over_channels(self.norm_y, y)
        u = self.project(_sum(self.strips_x, normal_x))
        v = self.project(_sum(self.strips_y, normal_y))
        rows = attend_rows(v, u, self.heads)
        columns = attend_rows(u.transpose(2, 3), v.transpose(2, 3), self.heads).transpose(2, 3)
        return self.outer(x, self.project(rows) + self.project(columns) + normal_x + normal_y)


def attend_rows(query: Tensor, source: Tensor, heads: int) -> Tensor:
    """Return cross-attention from the rows of a query (N, C, H, W) to those of a source, plus the normalised query."""
    value = _rows(source, heads)
    q, k = _unit(_rows(query, heads)), _unit(value)
    attended = (q @ k.transpose(-2, -1)).softmax(-1) @ value + q
    n, channels, height, width = source.shape
    return attended.reshape(n, heads, height, -1, width).transpose(2, 3).reshape(n, channels, height, width)


def _rows(x: Tensor, heads: int) -> Tensor:
    """Return (N, C, H, W) as (N, heads, H, C / heads · W)."""
    n, channels, height, width = x.shape
    return x.reshape(n, heads, channels // heads, height, width).transpose(2, 3).flatten(3)


def _unit(tokens: Tensor) -> Tensor:
    return F.normalize(tokens, dim=-1, eps=1e-6)  # the usual 1e-12 is 0 in half precision, and 0 / 0 no number


def _strips(channels: int) -> nn.ModuleList:
    shapes = [(1, length) for length in LENGTHS] + [(length, 1) for length in LENGTHS]
    return nn.ModuleList(
        nn.Conv2d(channels, channels, shape, padding=(shape[0] // 2, shape[1] // 2), groups=channels)
        for shape in shapes
    )


def _sum(layers: nn.ModuleList, x: Tensor) -> Tensor:
    total: Tensor = reduce(torch.add, [layer(x) for layer in layers])
    return total


def _over_channels(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    normal: Tensor = norm(x.movedim(1, -1))
    return normal.movedim(-1, 1).contiguous()  # bfloat16 strips on channels-last strides take minutes on a CPU
