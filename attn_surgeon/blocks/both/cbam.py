"""Convolutional block attention (Woo et al., 2018, "CBAM: Convolutional Block Attention Module").

channel:  z = mlp(mean_hw(x)) + mlp(max_hw(x)),              y = x · σ(z)
spatial:  z = bn(conv_k([max_c(x); mean_c(x)])),             y = x · σ(z)
cbam:     channel, then spatial

The batch norm after the spatial convolution is in the authors' code and not in the paper's formula. Many
implementations leave it out (`norm=false`), have no biases in the MLP (`bias=false`) and join the mean before the
maximum (`order=mean-max`). With `residual=true` cbam is y = x + spatial(channel(x)); it then starts at x + γ(f − x)
with γ = 0. On sequences and volumes the spatial convolution has one or three dimensions.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend, Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.options import (
    GATE,
    HIDDEN,
    activation_option,
    least_option,
    make_activation,
    momentum_option,
)
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

_PAPER = "Woo et al. 2018, CBAM: Convolutional Block Attention Module"
_REDUCTION = Option("reduction", 16, "hidden channels are C / reduction", minimum=1)
_LEAST, _ACTIVATION = least_option(2), activation_option("relu")
_BIAS = Option("bias", True, "whether the MLP's two layers have biases")
_NORM, _MOMENTUM = Option("norm", True, "whether a batch norm follows the spatial convolution"), momentum_option(0.01)
_ORDER = Option(
    "order", "max-mean", "order of the two maps that the convolution takes", choices=("max-mean", "mean-max")
)
_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_NORMS: dict[int, type[nn.Module]] = {1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_NO_BIAS = "the norm would cancel the convolution's bias, which could not learn: take norm=false"
_KERNEL = Option("kernel_size", 7, "side of the spatial convolution", minimum=1, odd=True)


@register(
    Card(
        name="channel",
        title="CBAM's channel half",
        paper=_PAPER,
        idea="weight channels by a shared MLP of their average-pooled and max-pooled values",
        formula="y = x · σ(mlp(mean(x)) + mlp(max(x)))",
        identity="2σ(z), the MLP's last layer = 0",
        parameters="2C²/r + C/r + C",
        macs="4C²/r",
        nodes=12,
        usual_sites="end of each residual branch, before the add",
        kind="channel",
        reach="channels",
        options=(_REDUCTION, _LEAST, HIDDEN, _BIAS, _ACTIVATION, GATE),
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
        hidden: int | None = None,
        bias: bool = True,
        activation: str = "relu",
        gate: str = "sigmoid",
        init: str = "identity",
    ) -> None:
        super().__init__()
        width = hidden_width(channels, reduction, least, hidden)
        first, last = nn.Linear(channels, width, bias=bias), nn.Linear(width, channels, bias=bias)
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
        idea="weight positions by a convolution of the maximum and the mean over channels",
        formula="y = x · σ(bn(conv_k([max_c(x); mean_c(x)])))",
        identity="2σ(z), the norm's weight and bias = 0",
        parameters="2k² + 2",
        macs="2k²·HW",
        nodes=10,
        usual_sites="end of each residual branch, before the add",
        kind="spatial",
        reach="map",
        any_dimensions=True,
        options=(
            _KERNEL,
            _NORM,
            _MOMENTUM,
            Option("bias", False, "whether the convolution has a bias, which takes norm=false: a norm would cancel it"),
            _ORDER,
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
        momentum: float = 0.01,
        bias: bool = False,
        order: str = "max-mean",
        gate: str = "sigmoid",
        dimensions: int = 2,
        init: str = "identity",
    ) -> None:
        super().__init__()
        if norm and bias:
            raise ValueError(_NO_BIAS)
        self.mean_first = order == "mean-max"
        self.conv = _CONVOLUTIONS[dimensions](2, 1, kernel_size, padding=kernel_size // 2, bias=bias)
        self.bn = _NORMS[dimensions](1, momentum=momentum) if norm else nn.Identity()
        self.gate = Multiply(init, self, "bn" if norm else "conv", function=gate)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        largest, mean = x.amax(1, keepdim=True), x.mean(1, keepdim=True)
        pooled = torch.cat((mean, largest) if self.mean_first else (largest, mean), 1)
        return self.gate(x, self.bn(self.conv(pooled)))


@register(
    Card(
        name="cbam",
        title="Convolutional Block Attention Module",
        paper=_PAPER,
        idea="channel attention, then spatial attention",
        formula="y = spatial(channel(x))",
        identity="2σ(z) in both halves, the last layer of each = 0",
        parameters="2C²/r + C/r + C + 2k² + 2",
        macs="4C²/r + 2k²·HW",
        nodes=22,
        usual_sites="end of each residual branch, before the add; after stages",
        kind="both",
        reach="map",
        any_dimensions=True,
        options=(
            _REDUCTION,
            _LEAST,
            HIDDEN,
            _KERNEL,
            _BIAS,
            Option("conv_bias", False, "whether the spatial convolution has a bias, which takes norm=false"),
            _NORM,
            _MOMENTUM,
            _ORDER,
            _ACTIVATION,
            GATE,
            Option("residual", False, "add the features to what both halves made of them"),
        ),
    )
)
class CBAM(nn.Module):
    """Weigh the channels, then the positions, of (N, C, H, W) features."""

    def __init__(  # noqa: PLR0913 - every option is a keyword of its own
        self,
        channels: int,
        *,
        reduction: int = 16,
        least: int = 2,
        hidden: int | None = None,
        kernel_size: int = 7,
        bias: bool = True,
        conv_bias: bool = False,
        norm: bool = True,
        momentum: float = 0.01,
        order: str = "max-mean",
        activation: str = "relu",
        gate: str = "sigmoid",
        residual: bool = False,
        dimensions: int = 2,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.flat = dimensions != 2
        inner = "paper" if residual else init  # two closed gates, one in the other, would not learn
        mlp: dict[str, Any] = {"reduction": reduction, "least": least, "hidden": hidden, "bias": bias}
        conv: dict[str, Any] = {"kernel_size": kernel_size, "norm": norm, "momentum": momentum, "bias": conv_bias}
        self.channel = ChannelAttention(channels, **mlp, activation=activation, gate=gate, init=inner)
        conv |= {"order": order, "dimensions": dimensions}
        self.spatial = SpatialAttention(channels, **conv, gate=gate, init=inner)
        self.outer = None
        if residual:
            start_hidden(init, self.channel.mlp[0])  # type: ignore[arg-type]
            self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        weighed = self.channel(x.flatten(2).unsqueeze(3)).reshape(x.shape) if self.flat else self.channel(x)
        gated: Tensor = self.spatial(weighed)
        return gated if self.outer is None else self.outer(x, x + gated)
