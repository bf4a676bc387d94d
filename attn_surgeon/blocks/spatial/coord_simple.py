"""Coordinate attention without its bottleneck, the simplified form of Hou et al., 2021.

y = x · σ(W_h mean_w(x) + b_h) · σ(W_w mean_h(x) + b_w)

Rows and columns each have one 1×1 convolution of their own, where the published block first mixes both in a shared
one with a norm and a hard swish.
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.card import Card
from attn_surgeon.blocks.gating import apply_gate, start_gate
from attn_surgeon.blocks.registry import register

CARD = Card(
    name="coord-simple",
    title="Coordinate Attention, simplified",
    paper="simplified from Hou et al. 2021, Coordinate Attention for Efficient Mobile Network Design",
    idea="weigh each row and each column by one linear layer of its mean",
    formula="y = x · σ(W_h mean_w(x) + b_h) · σ(W_w mean_h(x) + b_w)",
    identity="2σ(z) twice, W_h = b_h = W_w = b_w = 0",
    parameters="2C² + 2C",
    macs="C²·(H + W)",
    usual_sites="narrow maps: its cost grows with C²; end of each residual branch",
    kind="spatial",
    reach="map",
)


@register(CARD)
class SimpleCoordinateAttention(nn.Module):
    """Weigh the rows and the columns of (N, C, H, W) features by a linear layer of their means."""

    def __init__(self, channels: int, *, init: str = "identity") -> None:
        super().__init__()
        self.conv_h = nn.Conv2d(channels, channels, 1)
        self.conv_w = nn.Conv2d(channels, channels, 1)
        self.factor = start_gate(init, self.conv_h)
        start_gate(init, self.conv_w)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True)
        gated = apply_gate(x, self.conv_h(rows), self.factor)
        return apply_gate(gated, self.conv_w(columns), self.factor)
