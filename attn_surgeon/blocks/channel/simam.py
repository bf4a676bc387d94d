"""Simple attention without parameters (Yang et al., 2021, "SimAM: A Simple, Parameter-Free Attention Module").

d = (x − mean_hw(x))²
y = x · σ(d / (4 (mean_hw(d) + λ)) + 1 / 2)          the inverse of each value's least energy

The variance is over all H·W, as in the paper's formula; the authors' code divides by H·W − 1: `unbiased=true`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.norms import at_least_float, spatial_variance
from attn_surgeon.blocks.base.options import UNBIASED
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="simam",
    title="Simple Parameter-Free Attention",
    paper="Yang et al. 2021, SimAM: A Simple, Parameter-Free Attention Module for Convolutional Neural Networks",
    idea="weight each value by its distance from its channel's mean; parameter-free",
    formula="y = x · σ(d / (4 (var(x) + λ)) + 1/2), d = (x − mean(x))²",
    identity="x + γ(f − x), γ = 0 for each channel",
    parameters="C",
    macs="0",
    nodes=13,
    usual_sites="after the second convolution of residual branches; end of each residual branch",
    kind="channel",
    reach="positions",
    options=(Option("e_lambda", 1e-4, "λ, which keeps constant channels from dividing by 0", minimum=1e-8), UNBIASED),
)


@register(CARD)
class SimAM(nn.Module):
    """Weigh each value of (N, C, H, W) features by its distance from its channel's mean."""

    def __init__(
        self, channels: int, *, e_lambda: float = 1e-4, unbiased: bool = False, init: str = "identity"
    ) -> None:
        super().__init__()
        self.e_lambda, self.unbiased = e_lambda, unbiased
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        wide = at_least_float(x)
        distance = (wide - wide.mean((2, 3), keepdim=True)).square()
        energy = distance / (4 * (spatial_variance(distance, self.unbiased) + self.e_lambda)) + 0.5
        return self.outer(x, x * torch.sigmoid(energy).to(x.dtype))
