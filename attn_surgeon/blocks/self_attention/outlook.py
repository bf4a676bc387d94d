"""Outlook attention (Yuan et al., 2022, "VOLO: Vision Outlooker for Visual Recognition").

v = W_v u,  a = softmax(W_a u + b_a)               u = gn(x); a: k² × k² weights for each position and head
z_p = a_p (v in the k × k window around p)         k² rows: what p adds to itself and to each neighbour
y = x + W fold(z)                                  the sum of what all windows add to a position

The weights come from the window's centre alone, without comparing queries and keys; they are divided by √d before the
softmax, as published. The norm is over channels and positions together, so that one channel is enough; the
authors' module has none and adds no x (`norm=false`, `residual=false`), for their network does.
"""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import output_gate
from attn_surgeon.blocks.base.norms import SafeGroupNorm
from attn_surgeon.blocks.base.options import RESIDUAL
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor
from attn_surgeon.blocks.self_attention.windows import parts_of, run_parts

CARD = Card(
    name="outlook",
    title="Outlook Attention",
    paper="Yuan et al. 2022, VOLO: Vision Outlooker for Visual Recognition",
    idea="mix each local window by attention weights predicted from its centre",
    formula="y = x + W fold(softmax(W_a u / √d) unfold(W_v u)), u = gn(x)",
    identity="W = 0, with its bias",
    parameters="2C² + 3C + (C + 1)hk⁴, h = max(1, ⌊C/32⌋)",
    macs="(2C² + Chk⁴ + Ck⁴)·HW",
    nodes=75,
    usual_sites="early and middle stages, where maps are large",
    kind="self-attention",
    reach="map",
    options=(
        Option("kernel_size", 3, "side of a window", minimum=3, odd=True),
        Option("heads", None, "groups of channels; the largest divisor of C up to C / 32", minimum=1),
        Option("bias", False, "whether values have a bias"),
        Option("norm", True, "whether a norm precedes all"),
        RESIDUAL,
    ),
)


@register(CARD)
class OutlookAttention(nn.Module):
    """Add to (N, C, H, W) features what the windows around them make of them.

    Raises ValueError where the heads do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 3,
        heads: int | None = None,
        bias: bool = False,
        norm: bool = True,
        residual: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        heads = divisor(channels, heads, max(1, channels // 32), "heads")
        parts = parts_of(heads, 8)
        self.norm = SafeGroupNorm(1, channels) if norm else nn.Identity()
        self.parts = nn.ModuleList(
            _Heads(channels, channels // parts, heads // parts, kernel_size, bias) for _ in range(parts)
        )
        self.project = nn.Linear(channels, channels)
        self.gate = output_gate(init, self, channels, residual, "project")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, with what was found added."""
        return self.gate(x, self.project(self._find(x)).movedim(-1, 1))

    def _find(self, x: Tensor) -> Tensor:
        normal = self.norm(x).movedim(1, -1)
        return run_parts(self.parts, 3, normal)


class _Heads(nn.Module):
    """Some of the heads."""

    def __init__(self, channels: int, width: int, heads: int, side: int, bias: bool) -> None:
        super().__init__()
        self.width, self.side = width // heads, side
        self.value = nn.Linear(channels, width, bias=bias)
        self.weigh = nn.Linear(channels, heads * side**4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the mixed windows of (N, H, W, C) features, added up."""
        return _fold(self._mix(x), self.side)

    def _mix(self, x: Tensor) -> Tensor:
        """Return (N, H, W, heads, side², channels)."""
        places = self.side**2
        shares = (self.weigh(x).reshape(*x.shape[:3], -1, places, places) * self.width**-0.5).softmax(5)
        seen = _unfold(self.value(x), self.side).reshape(*x.shape[:3], places, -1, self.width).transpose(3, 4)
        mixed: Tensor = shares.to(seen.dtype) @ seen
        return mixed


def _unfold(x: Tensor, side: int) -> Tensor:
    """Return the windows of (N, H, W, C), zeros outside the map: (N, H, W, side², C)."""
    padded, height, width = F.pad(x, (0, 0, *4 * [side // 2])), *x.shape[1:3]
    return torch.stack([padded.narrow(1, up, height).narrow(2, left, width) for up, left in _places(side)], 3)


def _fold(mixed: Tensor, side: int) -> Tensor:
    """Return the sum over overlapping windows, (N, H, W, heads, side², channels), at each position: (N, H, W, C)."""
    most, (height, width) = side - 1, mixed.shape[1:3]
    moved = (
        F.pad(each.flatten(3), (0, 0, left, most - left, up, most - up))
        for each, (up, left) in zip(mixed.unbind(4), _places(side), strict=True)
    )
    return reduce(torch.add, moved).narrow(1, side // 2, height).narrow(2, side // 2, width)


def _places(side: int) -> list[tuple[int, int]]:
    return [(row, column) for row in range(side) for column in range(side)]
