"""Gaussian context transformer (Ruan et al., 2021, "Gaussian Context Transformer").

ẑ = (m − mean_c(m)) / √(var_c(m) + ε),  m = mean_hw(x)
y = x · exp(−ẑ² / 2c²)

c is fixed (GCT-B0) or learned (GCT-B1) as 1 + 3σ(θ), θ = 0 at first. Code in circulation has exp(−ẑ² c / 2) instead.
The gate is 1 only where a channel's mean is that of all channels, so the identity is x + γ(f − x) with γ = 0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="gct-gauss",
    title="Gaussian Context Transformer",
    paper="Ruan et al. 2021, Gaussian Context Transformer",
    idea="gate channels by a Gaussian of their global means, normalised across channels; no learned weights",
    formula="y = x · exp(−ẑ² / 2c²), ẑ: the means of channels, normalised over channels",
    identity="x + γ(f − x), γ = 0 for each channel",
    parameters="C",
    macs="0",
    nodes=12,
    usual_sites="end of each residual branch, before the add",
    kind="channel",
    reach="channels",
    options=(
        Option("c", 2.0, "the Gaussian's width, where it is not learned", minimum=0.1),
        Option("learned", False, "learn one width between 1 and 4, from 2.5 on"),
    ),
)


@register(CARD)
class GaussianContext(nn.Module):
    """Weigh the channels of (N, C, H, W) features by a Gaussian of their normalised means."""

    def __init__(self, channels: int, *, c: float = 2.0, learned: bool = False, init: str = "identity") -> None:
        super().__init__()
        self.c = c
        self.theta = nn.Parameter(torch.zeros(())) if learned else None
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        z = torch.group_norm(x.mean((2, 3), keepdim=True), 1)
        c = self.c if self.theta is None else 1 + 3 * self.theta.sigmoid()
        return self.outer(x, x * torch.exp(-0.5 * (z / c).square()).to(x.dtype))
