"""Attention in windows (Liu et al., 2021, "Swin Transformer: Hierarchical Vision Transformer using Shifted Windows").

q, k, v = W_q gn(x), W_k gn(x), W_v gn(x)
y = x + W softmax(q kᵀ / √d + b) v                 in each window of s × s positions, for each head
b_ij = table[row_i − row_j, column_i − column_j]   (2s − 1)² entries a head

The last windows of a map that is no multiple of s are cut off: positions outside are no keys. `shift` starts the
windows half a side outside the map. Published code rolls the map instead, and masks what then meets across its edges:
the same windows. The norm is over channels and positions together, in place of channels alone, so that one channel is
enough. W alone has a bias; the norm's stands for those of v and q, and one of k would add the same to all scores.
Swin's own module has no norm and adds no x, for its network does: `norm=false`, `bias=true`, `residual=false`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import output_gate
from attn_surgeon.blocks.base.norms import SafeGroupNorm
from attn_surgeon.blocks.base.options import RESIDUAL
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor
from attn_surgeon.blocks.self_attention.windows import cut, inside, join, parts_of, run_parts, split_heads

CARD = Card(
    name="window",
    title="Window Attention",
    paper="Liu et al. 2021, Swin Transformer: Hierarchical Vision Transformer using Shifted Windows",
    idea="multi-head self-attention in windows, with relative position bias",
    formula="y = x + W softmax(q kᵀ / √d + b) v in windows, (q, k, v) = W_qkv gn(x), b by relative position",
    identity="W = 0, with its bias",
    parameters="4C² + 3C + (2s - 1)²h, h = max(1, ⌊C/32⌋)",
    macs="(4C² + 2Cs²)P, P = s²·⌊(H + s - 1)/s⌋·⌊(W + s - 1)/s⌋",
    nodes=32,
    usual_sites="after stages, at any resolution; two in a row, the second shifted",
    kind="self-attention",
    reach="map",
    options=(
        Option("window", 7, "side of a window", minimum=2),
        Option("heads", None, "groups of channels; the largest divisor of C up to C / 32", minimum=1),
        Option("shift", False, "start the windows half a side outside"),
        Option("bias", False, "whether queries and values have biases"),
        Option("norm", True, "whether a norm precedes all"),
        RESIDUAL,
    ),
)


@register(CARD)
class WindowAttention(nn.Module):
    """Add to (N, C, H, W) features what positions find in their windows.

    Raises ValueError where the heads do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        window: int = 7,
        heads: int | None = None,
        shift: bool = False,
        bias: bool = False,
        norm: bool = True,
        residual: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        heads = divisor(channels, heads, max(1, channels // 32), "heads")
        self.window, self.before, parts = window, window - window // 2 if shift else 0, parts_of(heads)
        self.norm = SafeGroupNorm(1, channels) if norm else nn.Identity()
        width = channels // parts
        self.parts = nn.ModuleList(_Heads(channels, width, heads // parts, window, bias) for _ in range(parts))
        self.project = nn.Linear(channels, channels)
        self.gate = output_gate(init, self, channels, residual, "project")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, with what was found added."""
        found = self.project(self._find(x))
        return self.gate(x, join(found, x, self.window, before=self.before))

    def _find(self, x: Tensor) -> Tensor:
        tokens = cut(self.norm(x), self.window, before=self.before)
        seen = inside(x, self.window, before=self.before)
        return run_parts(self.parts, 2, tokens, seen)


class _Heads(nn.Module):
    """Some of the heads."""

    places: Tensor

    def __init__(self, channels: int, width: int, heads: int, window: int, bias: bool) -> None:
        super().__init__()
        self.width, self.head_width = width, width // heads
        self.qkv = nn.Linear(channels, 3 * width, bias=False)
        self.bias = nn.Parameter(torch.zeros(heads, 2 * self.head_width)) if bias else None
        self.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(heads, (2 * window - 1) ** 2), std=0.02))
        self.register_buffer("places", _relative_places(window), persistent=False)

    def forward(self, tokens: Tensor, seen: Tensor) -> Tensor:
        """Return the attention of (N, L, C) tokens to those inside the map, marked by (N, 1, 1, L)."""
        each = self.qkv(tokens).unflatten(2, (-1, 3, self.width)).unbind(3)
        query, key, value = (split_heads(one.flatten(2), self.head_width) for one in each)
        if self.bias is not None:  # a key's would add the same to all scores
            of_query, of_value = self.bias.to(query.dtype).unsqueeze(1).chunk(2, 2)
            query, value = query + of_query, value + of_value
        scores = self.table[:, self.places].to(query.dtype).masked_fill(~seen, -torch.inf)
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=scores)
        return found.transpose(1, 2).flatten(2)


def _relative_places(window: int) -> Tensor:
    """Return for each pair of a window's positions the entry of their distance: (s², s²)."""
    along = torch.arange(window)
    apart = along[:, None] - along + window - 1
    return (apart[:, None, :, None] * (2 * window - 1) + apart[:, None]).reshape(window**2, window**2)
