"""Double attention (Chen et al., 2018, "A²-Nets: Double Attention Networks").

a, b, v = W_a x + b_a, W_b x, W_v x + b_v          a of m channels, b and v of n
g = a softmax_positions(b)ᵀ                        gather: n descriptors of m numbers each
y = x + W (g softmax_channels(v)) + b              distribute: each position takes its own mixture of them
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import output_gate
from attn_surgeon.blocks.base.initialisation import start_at_zero
from attn_surgeon.blocks.base.options import RESIDUAL
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="a2",
    title="Double Attention",
    paper="Chen et al. 2018, A²-Nets: Double Attention Networks",
    idea="gather global descriptors by attention over positions, and distribute them to each position",
    formula="y = x + W (a softmax_positions(b)ᵀ softmax_channels(v)) + b; a, b, v: 1×1 convolutions of x",
    identity="x + f(x), W = b = 0",
    parameters="2Cm + 2Cn + m + n + C, m = max(2, C/4), n = max(2, C/4)",
    macs="(2Cm + 2Cn + 2mn)·HW",
    nodes=14,
    usual_sites="middle and late stages, after a residual block",
    kind="self-attention",
    reach="positions",
    options=(
        Option("features", None, "channels of a descriptor; C / 4, at least 2, where not given", minimum=1),
        Option("descriptors", None, "how many are gathered; C / 4, at least 2, where not given", minimum=2),
        RESIDUAL,
    ),
)


@register(CARD)
class DoubleAttention(nn.Module):
    """Add to each position of (N, C, H, W) features its own mixture of descriptors gathered from all."""

    def __init__(
        self,
        channels: int,
        *,
        features: int | None = None,
        descriptors: int | None = None,
        residual: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        features = features or hidden_width(channels, 4)
        descriptors = descriptors or hidden_width(channels, 4)
        self.feature = nn.Conv2d(channels, features, 1)
        self.gather = nn.Conv2d(channels, descriptors, 1, bias=False)  # a softmax over positions cancels a bias
        self.distribute = nn.Conv2d(channels, descriptors, 1)
        self.project = nn.Conv2d(features, channels, 1)
        self.gate = output_gate(init, self, channels, residual, "project")
        start_at_zero(init, self.distribute)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        gathered = self.feature(x).flatten(2) @ self.gather(x).flatten(2).softmax(2).transpose(1, 2)
        made = gathered @ self.distribute(x).flatten(2).softmax(1)
        return self.gate(x, self.project(torch.unflatten(made, 2, x.shape[2:])))
