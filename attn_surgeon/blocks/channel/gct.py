"""Gated channel transformation (Yang et al., 2020, "Gated Channel Transformation for Visual Recognition").

s = α · √(Σ_hw x² + ε)                  l2; l1: s = α · Σ_hw |x|
ŝ = s / √(mean_c(s²) + ε)               l2; l1: s / (mean_c|s| + ε)
y = x · (1 + tanh(γ ŝ + β))

α is 1 and γ and β are 0 at first, so the published start is the identity. ε is where the authors' code has it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.norms import at_least_float
from attn_surgeon.blocks.base.registry import register

_EPS = 1e-5
CARD = Card(
    name="gct",
    title="Gated Channel Transformation",
    paper="Yang et al. 2020, Gated Channel Transformation for Visual Recognition",
    idea="gate channels by their l2 norms, normalised across channels; three parameters for each channel",
    formula="y = x · (1 + tanh(γ ŝ + β)), ŝ = s / √mean_c(s²), s = α ‖x_c‖",
    identity="as published: γ = β = 0 in 1 + tanh",
    parameters="3C",
    macs="0",
    nodes=15,
    usual_sites="before each convolution; end of each residual branch, before the add",
    kind="channel",
    reach="channels",
    options=(Option("norm", "l2", "how a channel is measured", choices=("l2", "l1")),),
)


@register(CARD)
class GatedChannels(nn.Module):
    """Weigh the channels of (N, C, H, W) features by their norms among the norms of all."""

    def __init__(self, channels: int, *, norm: str = "l2", init: str = "identity") -> None:
        super().__init__()
        self.norm = norm
        self.alpha = nn.Parameter(torch.ones(channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(channels, 1, 1))
        self.gate = Multiply(init, self, "gamma", "beta", function="", rest=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        return self.gate(x, 1 + torch.tanh(self.gamma * self._embedded(at_least_float(x)) + self.beta))

    def _embedded(self, x: Tensor) -> Tensor:
        if self.norm == "l1":
            s = self.alpha * x.abs().sum((2, 3), keepdim=True)
            return s / (s.abs().mean(1, keepdim=True) + _EPS)
        s = self.alpha * (x.square().sum((2, 3), keepdim=True) + _EPS).sqrt()
        return s / (s.square().mean(1, keepdim=True) + _EPS).sqrt()
