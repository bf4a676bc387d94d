"""Effective squeeze-and-excitation (Lee & Park, 2020, "CenterMask: Real-Time Anchor-Free Instance Segmentation").

z = W · mean_hw(x) + b                           one layer from C to C, so that no channel is lost in a narrow one
y = x · h(z),  h(z) = min(max(z / 6 + 1 / 2, 0), 1)
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="ese",
    title="Effective Squeeze-and-Excitation",
    paper="Lee & Park 2020, CenterMask: Real-Time Anchor-Free Instance Segmentation (VoVNetV2)",
    idea="weight channels by one fully connected layer of their global means and a hard sigmoid",
    formula="y = x · h(W mean(x) + b), h(z) = z/6 + 1/2 between 0 and 1",
    identity="2h(z), W = b = 0",
    parameters="C² + C",
    macs="C²",
    nodes=7,
    usual_sites="end of each stage or one-shot aggregation, before the add",
    kind="channel",
    reach="channels",
)


@register(CARD)
class EffectiveSqueezeExcite(nn.Module):
    """Weigh the channels of (N, C, H, W) features by one layer of their means."""

    def __init__(self, channels: int, *, init: str = "identity") -> None:
        super().__init__()
        self.fc = nn.Conv2d(channels, channels, 1)
        self.gate = Multiply(init, self, "fc", function="hardsigmoid")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        return self.gate(x, self.fc(x.mean((2, 3), keepdim=True)))
