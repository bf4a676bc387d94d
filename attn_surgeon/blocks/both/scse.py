"""Concurrent squeeze and excitation of channels and positions (Roy et al., 2018).

"Concurrent Spatial and Channel 'Squeeze & Excitation' in Fully Convolutional Networks"; the maximum is of its
extended version, "Recalibrating Fully Convolutional Networks" (2019).

c = W2 · relu(W1 · mean_hw(x) + b1) + b2,       s = w · x + b at each position
add:  y = x · σ(c) + x · σ(s)
max:  y = max(x · σ(c), x · σ(s))
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.options import activation_option, least_option, make_activation
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="scse",
    title="Concurrent Spatial and Channel Squeeze-and-Excitation",
    paper="Roy et al. 2018, Concurrent Spatial and Channel 'Squeeze & Excitation' in Fully Convolutional Networks",
    idea="channel and spatial squeeze-and-excitation side by side",
    formula="y = x · σ(W2 relu(W1 mean(x) + b1) + b2) + x · σ(w x + b)",
    identity="W2 = b2 = w = b = 0: the two gates of 1/2 add up to 1; of their maximum 2σ(z)",
    parameters="2Cm + m + 2C + 1, m = max(2, C/r)",
    macs="2Cm + C·HW",
    nodes=9,
    usual_sites="after each stage of an encoder and a decoder for segmentation",
    kind="both",
    reach="positions",
    options=(
        Option("reduction", 2, "hidden channels are C / reduction", minimum=1),
        least_option(2),
        Option("bias", True, "whether the layers have biases"),
        activation_option("relu"),
        Option("combine", "add", "how the two gated maps become one", choices=("add", "max")),
    ),
)


@register(CARD)
class ConcurrentSqueezeExcite(nn.Module):
    """Weigh the channels and, beside that, the positions of (N, C, H, W) features."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        least: int = 2,
        bias: bool = True,
        activation: str = "relu",
        combine: str = "add",
        init: str = "identity",
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction, least)
        self.fc1, self.fc2 = nn.Conv2d(channels, hidden, 1, bias=bias), nn.Conv2d(hidden, channels, 1, bias=bias)
        self.activation, self.point = make_activation(activation), nn.Conv2d(channels, 1, 1, bias=bias)
        start_hidden(init, self.fc1)
        self.combine = combine
        if combine == "add":
            self.gate = Multiply(init, self, "fc2", "point", function="", rest=1.0)
        else:
            self.by_channel, self.by_position = Multiply(init, self, "fc2"), Multiply(init, self, "point")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        channels, positions = self.fc2(self.activation(self.fc1(x.mean((2, 3), keepdim=True)))), self.point(x)
        if self.combine == "add":
            return self.gate(x, torch.sigmoid(channels) + torch.sigmoid(positions))
        return torch.maximum(self.by_channel(x, channels), self.by_position(x, positions))
