"""Channel prior convolutional attention (Huang et al., 2024, for medical image segmentation).

"Channel Prior Convolutional Attention for Medical Image Segmentation"

u = x · σ(mlp(mean_hw(x)) + mlp(max_hw(x)))                 as in CBAM
v = d5(u),      s = v + Σ d_k×1(d_1×k(v)), k = 7, 11, 21    all depthwise
y = u · (W s + b)

No sigmoid in the second product: with W = 0 and b = 1 it is one. This is the paper's formula. The authors' code
(`form=code`) begins with gelu(W x + b), ends with another W, the same layer, and adds the sigmoids of mean and maximum
instead of their z; its identity is x + γ(f − x) with γ = 0.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend, Multiply
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.both.cbam import ChannelAttention
from attn_surgeon.blocks.spatial.lka import depthwise

LENGTHS = (7, 11, 21)
CARD = Card(
    name="cpca",
    title="Channel Prior Convolutional Attention",
    paper="Huang et al. 2024, Channel Prior Convolutional Attention for Medical Image Segmentation",
    idea="channel attention, then a product with depthwise strip convolutions of several lengths",
    formula="y = u · (W (v + Σ d_k×1(d_1×k(v))) + b), v = d5(u), u = x · σ(mlp(mean(x)) + mlp(max(x))), d: depthwise",
    identity="2σ(z) with the MLP's last layer = 0; W = 0, b = 1",
    parameters="2Cm + m + C² + 112C, m = max(2, C/r)",
    macs="4Cm + (C² + 103C)·HW",
    nodes=24,
    usual_sites="stages of a segmentation network; end of each residual branch",
    kind="both",
    reach="map",
    options=(
        Option("reduction", 4, "hidden channels are C / reduction, at least 2", minimum=1),
        Option("form", "paper", "the paper's, or that of the authors' code", choices=("paper", "code")),
    ),
)


@register(CARD)
class ChannelPriorAttention(nn.Module):
    """Weigh the channels of (N, C, H, W) features, then multiply them by depthwise strips of what is left."""

    def __init__(self, channels: int, *, reduction: int = 4, form: str = "paper", init: str = "identity") -> None:
        super().__init__()
        self.channel = ChannelAttention(channels, reduction=reduction, init="paper" if form == "code" else init)
        self.near = depthwise(channels, 5)
        self.strips = nn.ModuleList(_strips(channels, length) for length in LENGTHS)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.outer = Blend(channels, init) if form == "code" else None
        if self.outer is None:
            self.gate = Multiply(init, self, "mix", function="", rest=1.0, bias=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product, of the same shape."""
        if self.outer is None:
            prior: Tensor = self.channel(x)
            return self.gate(prior, self._surroundings(prior))
        entered = F.gelu(self.mix(x))
        mean, largest = (self.channel.mlp(pooled).sigmoid() for pooled in (entered.mean((2, 3)), entered.amax((2, 3))))
        prior = entered * (mean + largest).to(x.dtype).unsqueeze(-1).unsqueeze(-1)
        return self.outer(x, self.mix(self._surroundings(prior) * prior))

    def _surroundings(self, prior: Tensor) -> Tensor:
        near = self.near(prior)
        made: Tensor = self.mix(sum((strips(near) for strips in self.strips), near))
        return made


def _strips(channels: int, length: int) -> nn.Sequential:
    beside = length // 2
    return nn.Sequential(
        nn.Conv2d(channels, channels, (1, length), padding=(0, beside), groups=channels),
        nn.Conv2d(channels, channels, (length, 1), padding=(beside, 0), groups=channels),
    )
