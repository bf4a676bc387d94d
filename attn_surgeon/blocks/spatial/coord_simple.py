"""Coordinate attention without a norm and with one gate: timm's SimpleCoordAttn, simplified from Hou et al., 2021.

a_h, a_w = silu(W mean_w(x) + b), silu(W mean_h(x) + b)         the same layer for rows and for columns
y = x · σ(W_h a_h + b_h + W_w a_w + b_w)

The published block normalises a over rows and columns together, and multiplies a gate for each.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.options import HIDDEN, least_option
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="coord-simple",
    title="Coordinate Attention, simplified",
    paper="simplified from Hou et al. 2021, Coordinate Attention for Efficient Mobile Network Design (timm's form)",
    idea="gate each position by the means of its row and its column in one sigmoid, without a norm",
    formula="y = x · σ(W_h a_h + b_h + W_w a_w + b_w), a_h = silu(W mean_w(x) + b), a_w = silu(W mean_h(x) + b)",
    identity="2σ(z), W_h = b_h = W_w = b_w = 0",
    parameters="3Cm + m + 2C, m = max(8, ⌊C/r⌋)",
    macs="2Cm·(H + W)",
    nodes=14,
    usual_sites="after the depthwise convolution of inverted residuals; end of each residual branch",
    kind="spatial",
    reach="map",
    options=(Option("reduction", 6, "hidden channels are C / reduction", minimum=1), least_option(8), HIDDEN),
)


@register(CARD)
class SimpleCoordinateAttention(nn.Module):
    """Weigh the positions of (N, C, H, W) features by a shared function of their rows' and columns' means."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 6,
        least: int = 8,
        hidden: int | None = None,
        init: str = "identity",
    ) -> None:
        super().__init__()
        width = hidden_width(channels, reduction, least, hidden)
        self.squeeze = nn.Conv2d(channels, width, 1)
        self.conv_h = nn.Conv2d(width, channels, 1)
        self.conv_w = nn.Conv2d(width, channels, 1)
        start_hidden(init, self.squeeze)
        self.gate = Multiply(init, self, "conv_h", "conv_w")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        rows, columns = (F.silu(self.squeeze(x.mean(axis, keepdim=True))) for axis in (3, 2))
        return self.gate(x, self.conv_h(rows) + self.conv_w(columns))
