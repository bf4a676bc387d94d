"""Strip pooling (Hou et al., 2020, "Strip Pooling: Rethinking Spatial Pooling for Scene Parsing").

s = bn(conv_k×1(mean_w(x))) + bn(conv_1×k(mean_h(x)))       each row's and each column's, spread over the map
y = x · σ(W relu(s) + b)

The strip convolutions have no biases: the norms would cancel them, so they could not learn.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.norms import PooledNorm
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="strip",
    title="Strip Pooling",
    paper="Hou et al. 2020, Strip Pooling: Rethinking Spatial Pooling for Scene Parsing",
    idea="gate each position by strip-pooled features of its row and its column",
    formula="y = x · σ(W relu(bn(conv_k×1(mean_w(x))) + bn(conv_1×k(mean_h(x)))) + b)",
    identity="2σ(z), W = b = 0",
    parameters="2kCm + 4m + Cm + C, m = max(2, C)",
    macs="kCm·(H + W) + Cm·HW",
    nodes=10,
    usual_sites="inside the last stages of a segmentation backbone, on the 3×3 convolution's output",
    kind="spatial",
    reach="map",
    options=(Option("kernel_size", 3, "strips that each one sees beside it, itself included", minimum=1, odd=True),),
)


@register(CARD)
class StripPooling(nn.Module):
    """Weigh the positions of (N, C, H, W) features by the means of their rows and columns."""

    def __init__(self, channels: int, *, kernel_size: int = 3, init: str = "identity") -> None:
        super().__init__()
        hidden, beside = hidden_width(channels, 1), kernel_size // 2
        self.conv_h = nn.Conv2d(channels, hidden, (kernel_size, 1), padding=(beside, 0), bias=False)
        self.conv_w = nn.Conv2d(channels, hidden, (1, kernel_size), padding=(0, beside), bias=False)
        self.bn_h, self.bn_w = PooledNorm(hidden), PooledNorm(hidden)
        self.last = nn.Conv2d(hidden, channels, 1)
        # pairs of opposite signs in both: then so are their sums, and one of each pair is on
        start_hidden(init, self.conv_h)
        start_hidden(init, self.conv_w)
        self.gate = Multiply(init, self, "last")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        rows = self.bn_h(self.conv_h(x.mean(3, keepdim=True)))
        columns = self.bn_w(self.conv_w(x.mean(2, keepdim=True)))
        return self.gate(x, self.last(F.relu(rows + columns)))
