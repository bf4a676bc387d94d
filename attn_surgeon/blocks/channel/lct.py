"""Linear context transform (Ruan et al., 2020, "Linear Context Transform Block").

z = w · gn(mean_hw(x)) + b         normalised over the channels of each group, then a weight and a bias for each channel
y = x · σ(z)

The published start has w = 0 and b = 1.
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.norms import SafeGroupNorm
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor

CARD = Card(
    name="lct",
    title="Linear Context Transform",
    paper="Ruan et al. 2020, Linear Context Transform Block",
    idea="gate each channel by a linear function of its global mean, normalised in its group",
    formula="y = x · σ(w gn(mean(x)) + b)",
    identity="2σ(z), w = b = 0",
    parameters="2C",
    macs="0",
    nodes=9,
    usual_sites="end of each residual branch, before the add",
    kind="channel",
    reach="channels",
    options=(
        Option(
            "groups",
            None,
            "groups of channels to normalise; the largest divisor of C up to 64 and C / 4",
            minimum=1,
        ),
    ),
)


@register(CARD)
class LinearContext(nn.Module):
    """Weigh the channels of (N, C, H, W) features by a linear function of their normalised means.

    Raises ValueError where the groups do not divide the channels.
    """

    def __init__(self, channels: int, *, groups: int | None = None, init: str = "identity") -> None:
        super().__init__()
        # a group of one channel is normalised to 0, whatever it was
        count = divisor(channels, groups, max(1, min(64, channels // 4)), "groups")
        self.norm = SafeGroupNorm(count, channels)
        nn.init.zeros_(self.norm.weight)
        nn.init.ones_(self.norm.bias)
        self.gate = Multiply(init, self, "norm")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        return self.gate(x, self.norm(x.mean((2, 3), keepdim=True)))
