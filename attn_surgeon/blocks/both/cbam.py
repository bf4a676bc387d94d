"""Convolutional block attention (Woo et al., 2018, "CBAM: Convolutional Block Attention Module").

channel:  z = mlp(mean_hw(x)) + mlp(max_hw(x)),              y = x · σ(z)
spatial:  z = bn(conv_k([max_c(x); mean_c(x)])),             y = x · σ(z)
cbam:     channel, then spatial

The norm behind the spatial convolution is the authors' code's, which the paper's formula leaves out, as much code does:
`norm=false`. Much code has no biases in the MLP either, and joins the mean before the maximum: the two input channels
of the convolution are then in the other order.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.options import GATE, activation_option, least_option, make_activation
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.starts import start_hidden
from attn_surgeon.blocks.base.widths import hidden_width

_PAPER = "Woo et al. 2018, CBAM: Convolutional Block Attention Module"
_REDUCTION = Option("reduction", 16, "hidden channels are C / reduction", minimum=1)
_LEAST, _ACTIVATION = least_option(2), activation_option("relu")
_BIAS = Option("bias", True, "whether the MLP's two layers have biases")
_NORM = Option("norm", True, "whether a batch norm follows the spatial convolution")
_KERNEL = Option("kernel_size", 7, "side of the spatial convolution", minimum=1, odd=True)


@register(
    Card(
        name="channel",
        title="CBAM's channel half",
        paper=_PAPER,
        idea="weigh channels by their means and maxima through one shared MLP",
        formula="y = x · σ(mlp(mean(x)) + mlp(max(x)))",
        identity="2σ(z), the MLP's last layer = 0",
        parameters="2C²/r + C/r + C",
        macs="4C²/r",
        nodes=12,
        usual_sites="end of each residual branch, before the add",
        kind="channel",
        reach="channels",
        options=(_REDUCTION, _LEAST, _BIAS, _ACTIVATION, GATE),
    )
)
class ChannelAttention(nn.Module):
    """Weigh the channels of (N, C, H, W) features by a shared MLP of their means and maxima."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        least: int = 2,
        bias: bool = True,
        activation: str = "relu",
        gate: str = "sigmoid",
        init: str = "identity",
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction, least)
        first, last = nn.Linear(channels, hidden, bias=bias), nn.Linear(hidden, channels, bias=bias)
        self.mlp = nn.Sequential(first, make_activation(activation), last)
        start_hidden(init, first)
        self.gate = Multiply(init, self, "mlp.2", function=gate)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        z = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return self.gate(x, z.unsqueeze(-1).unsqueeze(-1))


@register(
    Card(
        name="spatial",
        title="CBAM's spatial half",
        paper=_PAPER,
        idea="weigh positions by the maximum and mean over channels around them",
        formula="y = x · σ(bn(conv_k([max_c(x); mean_c(x)])))",
        identity="2σ(z), the norm's weight and bias = 0",
        parameters="2k² + 2",
        macs="2k²·HW",
        nodes=10,
        usual_sites="end of each residual branch, before the add",
        kind="spatial",
        reach="map",
        options=(
            _KERNEL,
            _NORM,
            Option("bias", False, "whether the convolution has a bias, which takes norm=false: a norm would cancel it"),
            GATE,
        ),
    )
)
class SpatialAttention(nn.Module):
    """Weigh the positions of (N, C, H, W) features by a convolution of their maxima and means over channels.

    Raises ValueError for a bias before a norm.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        norm: bool = True,
        bias: bool = False,
        gate: str = "sigmoid",
        init: str = "identity",
    ) -> None:
        super().__init__()
        if norm and bias:
            raise ValueError("the norm would cancel the convolution's bias, which could not learn: take norm=false")
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=bias)
        self.bn = nn.BatchNorm2d(1, momentum=0.01) if norm else nn.Identity()
        self.gate = Multiply(init, self, "bn" if norm else "conv", function=gate)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        pooled = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
        return self.gate(x, self.bn(self.conv(pooled)))


@register(
    Card(
        name="cbam",
        title="Convolutional Block Attention Module",
        paper=_PAPER,
        idea="weigh channels, then positions",
        formula="y = spatial(channel(x))",
        identity="2σ(z) in both halves, the last layer of each = 0",
        parameters="2C²/r + C/r + C + 2k² + 2",
        macs="4C²/r + 2k²·HW",
        nodes=22,
        usual_sites="end of each residual branch, before the add; after stages",
        kind="both",
        reach="map",
        options=(_REDUCTION, _LEAST, _KERNEL, _BIAS, _NORM, _ACTIVATION, GATE),
    )
)
class CBAM(nn.Module):
    """Weigh the channels, then the positions, of (N, C, H, W) features."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        least: int = 2,
        kernel_size: int = 7,
        bias: bool = True,
        norm: bool = True,
        activation: str = "relu",
        gate: str = "sigmoid",
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.channel = ChannelAttention(
            channels, reduction=reduction, least=least, bias=bias, activation=activation, gate=gate, init=init
        )
        self.spatial = SpatialAttention(channels, kernel_size=kernel_size, norm=norm, gate=gate, init=init)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        gated: Tensor = self.spatial(self.channel(x))
        return gated
