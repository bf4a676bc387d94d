"""Coordinate attention (Hou et al., 2021, "Coordinate Attention for Efficient Mobile Network Design").

a = hswish(bn(W [mean_w(x); mean_h(x)]))        one map of H + W positions, split again into a_h and a_w
y = x · σ(W_h a_h + b_h) · σ(W_w a_w + b_w)

W has no bias: the norm after it would cancel it, so it could not learn. Many implementations have ReLU in place of
hardswish (`activation=relu`) and no biases (`bias=false`).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.options import GATE, HIDDEN, activation_option, least_option, make_activation
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="coord",
    title="Coordinate Attention",
    paper="Hou et al. 2021, Coordinate Attention for Efficient Mobile Network Design",
    idea="gate rows and columns by features pooled along the other axis, which keep positions apart",
    formula="y = x · σ(W_h a_h + b_h) · σ(W_w a_w + b_w), a = hswish(bn(W [mean_w(x); mean_h(x)]))",
    identity="2σ(z) twice, W_h = b_h = W_w = b_w = 0",
    parameters="3Cm + 2m + 2C, m = max(8, C/r)",
    macs="2Cm·(H + W)",
    nodes=17,
    usual_sites="after the depthwise convolution of inverted residuals; end of each residual branch",
    kind="spatial",
    reach="map",
    options=(
        Option("reduction", 32, "hidden channels are C / reduction", minimum=1),
        least_option(8),
        HIDDEN,
        Option("bias", True, "whether layers that no norm follows have biases"),
        Option("norm", True, "whether a batch norm follows W"),
        activation_option("hardswish"),
        GATE,
    ),
)


@register(CARD)
class CoordinateAttention(nn.Module):
    """Weigh the rows and the columns of (N, C, H, W) features by a shared function of their means."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 32,
        least: int = 8,
        hidden: int | None = None,
        bias: bool = True,
        norm: bool = True,
        activation: str = "hardswish",
        gate: str = "sigmoid",
        init: str = "identity",
    ) -> None:
        super().__init__()
        width = hidden_width(channels, reduction, least, hidden)
        self.squeeze = nn.Conv2d(channels, width, 1, bias=bias and not norm)
        self.bn = nn.BatchNorm2d(width) if norm else nn.Identity()
        self.activation = make_activation(activation)
        self.conv_h = nn.Conv2d(width, channels, 1, bias=bias)
        self.conv_w = nn.Conv2d(width, channels, 1, bias=bias)
        start_hidden(init, self.squeeze)
        self.gate = Multiply(init, self, "conv_h", "conv_w", function=gate)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        height = x.shape[2]
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
        shared = self.activation(self.bn(self.squeeze(torch.cat((rows, columns), 2))))
        z_h, z_w = self.conv_h(shared[:, :, :height]), self.conv_w(shared[:, :, height:]).transpose(2, 3)
        return self.gate(x, z_h, z_w)
