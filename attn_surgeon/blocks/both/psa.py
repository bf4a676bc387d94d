"""Polarized self-attention (Liu et al., 2021, "Polarized Self-Attention: Towards High-Quality Pixel-Wise Regression").

channels:   c = ln(W_z (W_v x · softmax_hw(w_q x)))         the map summed up by where w_q looks, C / r channels
positions:  s = softmax_c(U_q mean_hw(x)) · U_v x           C / r channels summed up by what U_q looks for
parallel:   y = x · σ(c) + x · σ(s)
sequential: the channels' gate, then the positions' of what it gave

Norm and softmax are where the paper has them. The authors' code (`form=code`) leaves the norm out of the parallel form,
has a bottleneck as W_z in the sequential one, and takes the positions' softmax after the product, over positions.
Nothing has a bias, as there; other implementations have them (`bias=true`), but for w_q's, which its softmax cancels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width
from attn_surgeon.blocks.both.psa_code import PolarizedCode

_PAPER = "Liu et al. 2021, Polarized Self-Attention: Towards High-Quality Pixel-Wise Regression"
_REDUCTION = Option("reduction", 2, "inner channels are C / reduction, at least 2", minimum=1)
_FORM = Option("form", "paper", "the paper's, or that of the authors' code", choices=("paper", "code"))
_BIAS = Option("bias", False, "whether the projections have biases")
_PARAMETERS = "4Cm + 3C, m = max(2, C/r)"
_LAYERS = ("channel.norm", "position.value")
_MACS = "2Cm + (2Cm + 2m + C)·HW"


class ChannelBranch(nn.Module):
    """Compute a logit of each channel, (N, C, 1, 1), from positions that a query chooses."""

    def __init__(self, channels: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.query, self.value = nn.Conv2d(channels, 1, 1, bias=False), nn.Conv2d(channels, hidden, 1, bias=bias)
        self.expand, self.norm = nn.Linear(hidden, channels, bias=bias), nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the sigmoid takes."""
        shares = self.query(x).flatten(2).softmax(2)
        summed = self.value(x).flatten(2) @ shares.transpose(1, 2).to(x.dtype)
        z: Tensor = self.norm(self.expand(summed.squeeze(2)))
        return z.unsqueeze(2).unsqueeze(3)


class PositionBranch(nn.Module):
    """Compute a logit of each position, (N, 1, H, W), from channels that a query chooses."""

    def __init__(self, channels: int, hidden: int, bias: bool, init: str) -> None:
        super().__init__()
        self.query, self.value = (nn.Conv2d(channels, hidden, 1, bias=bias) for _ in range(2))
        if init == "identity":  # what all channels have in common would saturate the softmax before it learns
            self.query.weight.data -= self.query.weight.data.mean(1, keepdim=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the sigmoid takes."""
        shares = self.query(x.mean((2, 3), keepdim=True)).flatten(1).softmax(1)
        values = self.value(x)
        z: Tensor = shares.unsqueeze(1).to(values.dtype) @ values.flatten(2)
        return z.reshape(-1, 1, *x.shape[2:])


@register(
    Card(
        name="psa-p",
        title="Polarized Self-Attention, parallel",
        paper=_PAPER,
        idea="polarized channel attention and spatial attention in parallel, summed",
        formula="y = x · σ(ln(W_z (W_v x · softmax(w_q x)))) + x · σ(softmax(U_q mean(x)) · U_v x)",
        identity="the norm's weight and bias = 0, U_v = 0: the two gates of 1/2 add up to 1",
        parameters=_PARAMETERS,
        macs=_MACS,
        nodes=24,
        usual_sites="after the 3×3 convolution of residual branches, for pixel-wise regression",
        kind="both",
        reach="positions",
        options=(_REDUCTION, _BIAS, _FORM),
    )
)
class ParallelPolarizedAttention(nn.Module):
    """Weigh the channels and, beside that, the positions of (N, C, H, W) features."""

    def __init__(
        self, channels: int, *, reduction: int = 2, bias: bool = False, form: str = "paper", init: str = "identity"
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction)
        self.variant = PolarizedCode(channels, hidden, False, init) if form == "code" else None
        if self.variant is not None:
            return
        self.channel = ChannelBranch(channels, hidden, bias)
        self.position = PositionBranch(channels, hidden, bias, init)
        self.gate = Multiply(init, self, *_LAYERS, function="", rest=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        if self.variant is not None:
            return self.variant(x)  # type: ignore[no-any-return]
        return self.gate(x, torch.sigmoid(self.channel(x)) + torch.sigmoid(self.position(x)))


@register(
    Card(
        name="psa-s",
        title="Polarized Self-Attention, sequential",
        paper=_PAPER,
        idea="polarized channel attention, then spatial attention",
        formula="y = u · σ(softmax(U_q mean(u)) · U_v u), u = x · σ(ln(W_z (W_v x · softmax(w_q x))))",
        identity="2σ(z) twice, the norm's weight and bias = 0, U_v = 0",
        parameters=_PARAMETERS,
        macs=_MACS,
        nodes=26,
        usual_sites="after the 3×3 convolution of residual branches, for pixel-wise regression",
        kind="both",
        reach="positions",
        options=(_REDUCTION, _BIAS, _FORM),
    )
)
class SequentialPolarizedAttention(nn.Module):
    """Weigh the channels, then the positions, of (N, C, H, W) features."""

    def __init__(
        self, channels: int, *, reduction: int = 2, bias: bool = False, form: str = "paper", init: str = "identity"
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction)
        self.variant = PolarizedCode(channels, hidden, True, init) if form == "code" else None
        if self.variant is not None:
            return
        self.channel = ChannelBranch(channels, hidden, bias)
        self.position = PositionBranch(channels, hidden, bias, init)
        self.gate = Multiply(init, self, *_LAYERS)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        if self.variant is not None:
            return self.variant(x)  # type: ignore[no-any-return]
        gated = self.gate(x, self.channel(x))
        return self.gate(gated, self.position(gated))
