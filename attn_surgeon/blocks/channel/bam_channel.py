"""Bottleneck attention, its channel half (Park et al., 2018, "BAM: Bottleneck Attention Module").

z = W2 relu(bn(W1 mean_hw(x))) + b2
y = x + x · σ(z)

The norm is where the authors' code has it; the paper writes it after the second layer. W1 has no bias, which the norm
would cancel. The gate 1 + σ(z) is never 1, so the identity is x + γ(f − x), γ = 0: x + γ · x · σ(z).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.norms import PooledNorm
from attn_surgeon.blocks.base.options import least_option
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="bam-channel",
    title="BAM's channel half",
    paper="Park et al. 2018, BAM: Bottleneck Attention Module",
    idea="amplify channels by a batch-normalised MLP of their global means",
    formula="y = x + x · σ(W2 relu(bn(W1 mean(x))) + b2)",
    identity="x + γ · x · σ(z), γ = 0 for each channel; as published where γ = 1",
    parameters="2C²/r + 2C/r + 2C",
    macs="2C²/r",
    nodes=10,
    usual_sites="between stages, before each is made smaller",
    kind="channel",
    reach="channels",
    options=(Option("reduction", 16, "hidden channels are C / reduction", minimum=1), least_option(2)),
)


class ChannelBranch(nn.Module):
    """Compute z, (N, C, 1, 1), of (N, C, H, W) features."""

    def __init__(self, channels: int, hidden: int, init: str) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.bn = PooledNorm(hidden)
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        start_hidden(init, self.fc1)
        if init != "paper":
            # features far from 0, before a norm that knows them, else reach the flat ends of the sigmoid
            nn.init.uniform_(self.fc2.weight, -0.1 / hidden**0.5, 0.1 / hidden**0.5)

    def forward(self, x: Tensor) -> Tensor:
        """Return z of each channel."""
        z: Tensor = self.fc2(self.bn(self.fc1(x.mean((2, 3), keepdim=True))).relu())
        return z


@register(CARD)
class BottleneckChannels(nn.Module):
    """Strengthen the channels of (N, C, H, W) features by a two-layer function of their means."""

    def __init__(self, channels: int, *, reduction: int = 16, least: int = 2, init: str = "identity") -> None:
        super().__init__()
        self.branch = ChannelBranch(channels, hidden_width(channels, reduction, least), init)
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return strengthened features of the same shape."""
        return self.outer(x, x + x * torch.sigmoid(self.branch(x)).to(x.dtype))
