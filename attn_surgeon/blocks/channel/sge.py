"""Spatial group-wise enhance (Li et al., 2019, "Spatial Group-wise Enhance").

c_p = mean_hw(x) · x_p             within a group of channels: how like the group's mean position p is
ĉ = (c − mean_p(c)) / √(var_p(c) + ε)
y = x · σ(γ ĉ + β)                 γ and β for each group

The published start has γ = 0 and β = 1. The authors' code divides by the unbiased standard deviation plus 1e-5 instead:
`unbiased=true`.
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.norms import SafeGroupNorm, at_least_float, spatial_variance
from attn_surgeon.blocks.base.options import UNBIASED
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor

CARD = Card(
    name="sge",
    title="Spatial Group-wise Enhance",
    paper="Li et al. 2019, Spatial Group-wise Enhance: Improving Semantic Feature Learning in Convolutional Networks",
    idea="gate the positions of each channel group by their similarity to the group's global mean",
    formula="y = x · σ(γ ĉ + β), ĉ: mean(x) · x of each group, normalised over positions",
    identity="2σ(z), γ = β = 0",
    parameters="2g, g = min(64, C)",
    macs="0",
    nodes=12,
    usual_sites="end of each residual branch, before the add",
    kind="channel",
    reach="positions",
    options=(Option("groups", None, "groups of channels; the largest divisor of C up to 64", minimum=1), UNBIASED),
)


@register(CARD)
class GroupwiseEnhance(nn.Module):
    """Weigh the positions of each group of channels of (N, C, H, W) features by their likeness to the group's mean.

    Raises ValueError where the groups do not divide the channels.
    """

    def __init__(
        self, channels: int, *, groups: int | None = None, unbiased: bool = False, init: str = "identity"
    ) -> None:
        super().__init__()
        self.unbiased = unbiased
        self.groups = divisor(channels, groups, 64, "groups")
        self.norm = SafeGroupNorm(self.groups, self.groups)
        nn.init.zeros_(self.norm.weight)
        nn.init.ones_(self.norm.bias)
        self.gate = Multiply(init, self, "norm")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        n, channels, height, width = x.shape
        parts = at_least_float(x).reshape(n, self.groups, channels // self.groups, height, width)
        likeness = (parts * parts.mean((3, 4), keepdim=True)).sum(2)
        z = self._normalised(likeness).unsqueeze(2).expand(-1, -1, channels // self.groups, -1, -1)
        return self.gate(x, z.flatten(1, 2))

    def _normalised(self, likeness: Tensor) -> Tensor:
        if not self.unbiased:
            normal: Tensor = self.norm(likeness)
            return normal
        centred = likeness - likeness.mean((2, 3), keepdim=True)
        scaled = centred / (spatial_variance(centred.square(), unbiased=True).sqrt() + self.norm.eps)
        weight, bias = (each.to(scaled.dtype).reshape(-1, 1, 1) for each in (self.norm.weight, self.norm.bias))
        return scaled * weight + bias
