"""Global attention (Liu et al., 2021).

"Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions"

channels:   z = W2 · relu(W1 x + b1) + b2                   at every position, nothing is pooled
positions:  z = bn(conv_k(relu(bn(conv_k(x)))))             C → C / r → C
y = x · σ(z), twice; the second z is of what the first gave

The channels' sigmoid is the paper's; the authors' code has versions without. The k×k convolutions have no biases: the
norms would take them off again, so they could not learn.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.starts import start_hidden
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="gam",
    title="Global Attention Mechanism",
    paper="Liu et al. 2021, Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions",
    idea="weigh channels, then positions, without pooling anything away; large",
    formula="y = u · σ(bn(conv_k(relu(bn(conv_k(u)))))), u = x · σ(W2 relu(W1 x + b1) + b2)",
    identity="2σ(z) twice, W2 = b2 = 0, the last norm's weight and bias = 0",
    parameters="2Cm + 3m + 3C + 2k²Cm, m = max(2, C/r)",
    macs="(2Cm + 2k²Cm)·HW",
    nodes=12,
    usual_sites="end of residual branches of small networks: its cost grows with k²C²",
    kind="both",
    reach="map",
    options=(
        Option("reduction", 4, "hidden channels are C / reduction, at least 2", minimum=1),
        Option("kernel_size", 7, "side of the spatial convolutions", minimum=1, odd=True),
    ),
)


@register(CARD)
class GlobalAttention(nn.Module):
    """Weigh the channels, then the positions, of (N, C, H, W) features, each place on its own."""

    def __init__(self, channels: int, *, reduction: int = 4, kernel_size: int = 7, init: str = "identity") -> None:
        super().__init__()
        hidden, beside = hidden_width(channels, reduction), kernel_size // 2
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)
        self.conv1 = nn.Conv2d(channels, hidden, kernel_size, padding=beside, bias=False)
        self.conv2 = nn.Conv2d(hidden, channels, kernel_size, padding=beside, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(hidden), nn.BatchNorm2d(channels)
        start_hidden(init, self.fc1)
        start_hidden(init, self.conv1)
        self.gate = Multiply(init, self, "fc2", "bn2")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        gated = self.gate(x, self.fc2(F.relu(self.fc1(x))))
        hidden = F.relu(self.bn1(self.conv1(gated)))
        return self.gate(gated, self.bn2(self.conv2(hidden)))
