"""Global attention (Liu et al., 2021).

"Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions"

channels:   z = W2 · relu(W1 x + b1) + b2                   at every position, nothing is pooled
positions:  z = bn(conv_k(relu(bn(conv_k(x)))))             C → C / r → C
y = x · σ(z), twice; the second z is of what the first gave

The channels' sigmoid is the paper's; versions of the authors' code have none (`channel_gate=none`), and convolve
groups of channels, whose gates are shuffled then (`groups=4`). The k×k convolutions have no biases: the norms would
cancel them, so they could not learn.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.options import least_option
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor, hidden_width

CARD = Card(
    name="gam",
    title="Global Attention Mechanism",
    paper="Liu et al. 2021, Global Attention Mechanism: Retain Information to Enhance Channel-Spatial Interactions",
    idea="an MLP over channels at each position, then convolutional spatial attention, without pooling; large",
    formula="y = u · σ(bn(conv_k(relu(bn(conv_k(u)))))), u = x · σ(W2 relu(W1 x + b1) + b2)",
    identity="2σ(z) twice, W2 = b2 = 0, the last norm's weight and bias = 0",
    parameters="2Cm + 3m + 3C + 2k²Cm, m = max(2, C/r)",
    macs="(2Cm + 2k²Cm)·HW",
    nodes=12,
    usual_sites="end of residual branches of small networks: its cost grows with k²C²",
    kind="both",
    reach="map",
    options=(
        Option("reduction", 4, "hidden channels are C / reduction", minimum=1),
        least_option(2),
        Option("kernel_size", 7, "side of the spatial convolutions", minimum=1, odd=True),
        Option("groups", 1, "groups of the spatial convolutions, whose gates are shuffled", minimum=1),
        Option("channel_gate", "sigmoid", "the function of the channels' logits", choices=("sigmoid", "none")),
    ),
)


@register(CARD)
class GlobalAttention(nn.Module):
    """Weigh the channels, then the positions, of (N, C, H, W) features, each place on its own.

    Raises ValueError where the groups do not divide the channels or the hidden channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        least: int = 2,
        kernel_size: int = 7,
        groups: int = 1,
        channel_gate: str = "sigmoid",
        init: str = "identity",
    ) -> None:
        super().__init__()
        hidden, beside = hidden_width(channels, reduction, least), kernel_size // 2
        self.groups = divisor(math.gcd(channels, hidden), groups, 1, "groups")
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)
        self.conv1 = nn.Conv2d(channels, hidden, kernel_size, padding=beside, groups=groups, bias=False)
        self.conv2 = nn.Conv2d(hidden, channels, kernel_size, padding=beside, groups=groups, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(hidden), nn.BatchNorm2d(channels)
        start_hidden(init, self.fc1)
        start_hidden(init, self.conv1)
        self.product: Multiply | None = None
        if channel_gate == "none":
            self.product = Multiply(init, self, "fc2", function="", rest=1.0, bias=1.0)
        self.gate = Multiply(init, self, *(["fc2"] if channel_gate == "sigmoid" else []), "bn2")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        z = self.fc2(F.relu(self.fc1(x)))
        gated = self.gate(x, z) if self.product is None else self.product(x, z)
        z = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(gated)))))
        return self.gate(gated, z if self.groups == 1 else _shuffle(z, self.groups))


def _shuffle(x: Tensor, groups: int) -> Tensor:
    return torch.unflatten(x, 1, (groups, -1)).transpose(1, 2).flatten(1, 2)
