"""Attention-free transformers (Zhai et al., 2021, "An Attention Free Transformer").

q, k, v = W_q x + b_q, W_k x, W_v x + b_v
simple:   o_i = σ(q_i) · sum_j e^(k_j) v_j / sum_j e^(k_j)
conv:     o_i = σ(q_i) · sum_j e^(k_j + w_ij) v_j / sum_j e^(k_j + w_ij)
y = x + W o + b

All products are channel by channel. w_ij is learned for each channel and offset within a window around i, and 0
outside; the sums are those of `simple` and, from the window, of e^w − 1 more. Both share the softmax of k over
positions, so no power overflows. The paper's heads that share a window and its normalisation of w are left out.
Implementations that return σ(q) · … alone are `project=false`, `residual=false`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import output_gate
from attn_surgeon.blocks.base.initialisation import start_at_zero
from attn_surgeon.blocks.base.options import RESIDUAL
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.self_attention.attend import share

_PAPER = "Zhai et al. 2021, An Attention Free Transformer"
_PROJECT = Option("project", True, "whether there is a W; else it is 1, and b 0")


@register(
    Card(
        name="aft",
        title="Attention-Free Transformer, simple",
        paper=_PAPER,
        idea="a softmax-weighted sum over positions for each channel, gated by each position's query",
        formula="y = x + W (σ(q) · sum(softmax_positions(k) · v)) + b",
        identity="x + f(x), W = b = 0",
        parameters="4C² + 3C",
        macs="4C²·HW",
        nodes=12,
        usual_sites="late stages; its cost is linear in the positions",
        kind="self-attention",
        reach="positions",
        options=(_PROJECT, RESIDUAL),
    )
)
class AttentionFree(nn.Module):
    """Add to each position of (N, C, H, W) features its gate times a sum of the whole map.

    The key has no bias: it would cancel in the quotient, so it could not learn.
    """

    def __init__(self, channels: int, *, project: bool = True, residual: bool = True, init: str = "identity") -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1)
        self.project = nn.Conv2d(channels, channels, 1) if project else nn.Identity()
        self.gate = output_gate(init, self, channels, residual, "project" if project else "value")
        start_at_zero(init, self.query)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        seen = self.sum(share(self.key(x)), self.value(x))
        return self.gate(x, self.project(torch.sigmoid(self.query(x)) * seen))

    def sum(self, shares: Tensor, value: Tensor) -> Tensor:
        """Sum values up over positions by their shares, which add up to one."""
        return (shares * value).sum((2, 3), keepdim=True)


@register(
    Card(
        name="aft-conv",
        title="Attention-Free Transformer, convolutional",
        paper=_PAPER,
        idea="as aft, with learned weights for each channel and offset in a local window",
        formula="y = x + W (σ(q) · sum(e^(k + w) · v) / sum(e^(k + w))) + b",
        identity="x + f(x), W = b = 0",
        parameters="4C² + 3C + Ck²",
        macs="(4C² + 2Ck²)·HW",
        nodes=18,
        usual_sites="late stages; its cost is linear in the positions",
        kind="self-attention",
        reach="map",
        options=(
            Option("kernel_size", 7, "side of the window of learned offsets", minimum=1, odd=True),
            _PROJECT,
            RESIDUAL,
        ),
    )
)
class AttentionFreeConv(AttentionFree):
    """Add to each position of (N, C, H, W) features its gate times a sum of the whole map that knows what is near."""

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        project: bool = True,
        residual: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__(channels, project=project, residual=residual, init=init)
        self.offsets = nn.Parameter(torch.zeros(channels, 1, kernel_size, kernel_size))

    def sum(self, shares: Tensor, value: Tensor) -> Tensor:
        """Sum values up over positions by their shares, weighted around each position."""
        weighted = shares * value
        total, least = self._around(weighted) + weighted.sum((2, 3), keepdim=True), torch.finfo(value.dtype).tiny
        return total / (self._around(shares) + 1).clamp(min=least)

    def _around(self, x: Tensor) -> Tensor:
        kernel = torch.expm1(self.offsets)
        return F.conv2d(x, kernel, padding=kernel.shape[-1] // 2, groups=len(kernel))
