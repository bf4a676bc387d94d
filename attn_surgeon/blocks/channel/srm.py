"""Style-based recalibration (Lee et al., 2019, "SRM: A Style-based Recalibration Module for CNNs").

μ, σ = mean_hw(x), √(var_hw(x) + ε)              each channel's style
z = bn(w1 μ + w2 σ)                              two weights for each channel, no bias
y = x · σ(z)

The variance is over all H·W, as in the paper; the authors' code divides by H·W − 1: `unbiased=true`. Other
implementations have no ε, which a small `eps` comes close to.
The published start has w1 = w2 = 0, as in the authors' code; at the identity start the norm is 0 instead.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.norms import PooledNorm, at_least_float, spatial_variance
from attn_surgeon.blocks.base.options import UNBIASED
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="srm",
    title="Style-based Recalibration Module",
    paper="Lee et al. 2019, SRM: A Style-based Recalibration Module for Convolutional Neural Networks",
    idea="weight each channel by its own mean and standard deviation",
    formula="y = x · σ(bn(w1 mean(x) + w2 std(x)))",
    identity="2σ(z), the norm's weight and bias = 0",
    parameters="4C",
    macs="2C",
    nodes=11,
    usual_sites="end of each residual branch, before the add",
    kind="channel",
    reach="channels",
    options=(UNBIASED, Option("eps", 1e-5, "ε, added to the variance", minimum=1e-30)),
)


@register(CARD)
class StyleRecalibration(nn.Module):
    """Weigh the channels of (N, C, H, W) features by the mean and standard deviation of each."""

    def __init__(self, channels: int, *, unbiased: bool = False, eps: float = 1e-5, init: str = "identity") -> None:
        super().__init__()
        self.unbiased, self.eps = unbiased, eps
        self.cfc = nn.Conv2d(channels, channels, (2, 1), groups=channels, bias=False)
        self.bn = PooledNorm(channels)
        self.gate = Multiply(init, self, "bn")
        if init == "paper":
            nn.init.zeros_(self.cfc.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        wide = at_least_float(x)
        mean = wide.mean((2, 3), keepdim=True)
        deviation = (spatial_variance((wide - mean).square(), self.unbiased) + self.eps).sqrt()
        style = torch.cat((mean, deviation), 2).to(x.dtype)
        return self.gate(x, self.bn(self.cfc(style)))
