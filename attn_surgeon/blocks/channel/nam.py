"""Normalisation-based attention, its channel half (Liu et al., 2021, "NAM: Normalization-based Attention Module").

w_c = |γ_c| / Σ|γ|                   of the weights γ of a batch norm
y = x · σ(w · bn(x))

The authors' code takes w as a constant; here γ learns through it too. Their penalty on |γ| is part of the loss, not of
the block.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.norms import PooledNorm
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="nam",
    title="Normalization-based Attention",
    paper="Liu et al. 2021, NAM: Normalization-based Attention Module",
    idea="gate values by their batch norm, scaled by the relative magnitude of its weights",
    formula="y = x · σ(w · bn(x)), w = |γ| / Σ|γ| of the norm's weights γ",
    identity="x + γ(f − x), γ = 0 for each channel; the norm starts at 1 and 0 as usual",
    parameters="3C",
    macs="0",
    nodes=7,
    usual_sites="end of each residual branch, before the add",
    kind="channel",
    reach="channels",
)


@register(CARD)
class NormAttention(nn.Module):
    """Weigh the values of (N, C, H, W) features by their batch norm and its weights."""

    def __init__(self, channels: int, *, init: str = "identity") -> None:
        super().__init__()
        self.bn = PooledNorm(channels)
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        shares = F.normalize(self.bn.weight.abs(), p=1.0, dim=0, eps=1e-6).reshape(-1, 1, 1)
        return self.outer(x, x * torch.sigmoid(shares * self.bn(x)).to(x.dtype))
