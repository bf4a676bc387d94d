"""Criss-cross attention (Huang et al., 2019, "CCNet: Criss-Cross Attention for Semantic Segmentation").

q, k, v = W_q x + b_q, W_k x, W_v x + b_v              q and k of C / r channels
o_p = sum_s a_ps v_s                                   s: the H + W − 1 positions in the row or the column of p
y = x + γ o                                            a_p = softmax over s of q_p · k_s, not scaled; γ = 0 at first

It is run twice with the same weights: from anywhere, a column and then a row reach the whole map.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Add
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="crisscross",
    title="Criss-Cross Attention",
    paper="Huang et al. 2019, CCNet: Criss-Cross Attention for Semantic Segmentation",
    idea="self-attention along each position's row and column, applied recurrently",
    formula="y = x + γ · softmax(q kᵀ over row and column) v, twice",
    identity="as published: γ = 0",
    parameters="C² + 2Cm + m + C + 1, m = max(1, C/r)",
    macs="(2C² + 4Cm + 2(m + C)(H + W))·HW",
    nodes=30,
    usual_sites="after the last stage of a segmentation network",
    kind="self-attention",
    reach="map",
    options=(
        Option("reduction", 8, "query and key have C / reduction channels", minimum=1),
        Option("recurrence", 2, "how often it is run", minimum=1),
    ),
)


@register(CARD)
class CrissCrossAttention(nn.Module):
    """Add to each position of (N, C, H, W) features what it sees of its row and its column, more than once.

    The key has no bias: a softmax over keys would cancel it, so it could not learn.
    """

    def __init__(self, channels: int, *, reduction: int = 8, recurrence: int = 2, init: str = "identity") -> None:
        super().__init__()
        width = hidden_width(channels, reduction, 1)
        self.recurrence = recurrence
        self.query = nn.Conv2d(channels, width, 1)
        self.key = nn.Conv2d(channels, width, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.gate = Add(init, self, "gamma")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        for _ in range(self.recurrence):
            x = self.gate(x, self.gamma * cross(self.query(x), self.key(x), self.value(x)))
        return x


def cross(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Attend from each position of (N, C, H, W) to its column and its row, to itself once."""
    height = query.shape[2]
    column = torch.einsum("nchw,ncgw->nhwg", query, key)
    rows = torch.arange(height, device=query.device)
    itself = (rows[:, None] == rows)[:, None]  # counted in its row
    row = torch.einsum("nchw,nchv->nhwv", query, key)
    shares = torch.cat((column.masked_fill(itself, -torch.inf), row), 3).softmax(3).to(value.dtype)
    of_column = torch.einsum("nhwg,ncgw->nchw", shares[..., :height], value)
    return of_column + torch.einsum("nhwv,nchv->nchw", shares[..., height:], value)
