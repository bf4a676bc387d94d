"""Shuffle attention (Zhang & Yang, 2021, "SA-Net: Shuffle Attention for Deep Convolutional Neural Networks").

Channels form groups, and each group a first half a and a second half b; all groups share their parameters.

a' = a · σ(w1 mean_hw(a) + b1)
b' = b · σ(w2 gn(b) + b2)                       gn: each channel on its own
y = shuffle([a'; b'; a'; b'; ...])              the first half of all channels and the second take turns

A group of an odd width gives its extra channel to b, a group of one channel is all a. Of an odd number of channels the
first half is the larger one. The shuffle moves channels, so the identity is x + γ(f − x) with γ = 0. The published
start, w2 = 0, would then leave the norm without a gradient for too long; the identity form has w2 = 1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.norms import SafeGroupNorm
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor

CARD = Card(
    name="shuffle",
    title="Shuffle Attention",
    paper="Zhang & Yang 2021, SA-Net: Shuffle Attention for Deep Convolutional Neural Networks",
    idea="channel attention on half of each channel group, spatial attention on the other, then a channel shuffle",
    formula="y = shuffle([a · σ(w1 mean(a) + b1); b · σ(w2 gn(b) + b2)]), a and b: the halves of each group",
    identity="x + γ(f − x), γ = 0 for each channel",
    parameters="3s + C, s = C/min(64, C/2)",
    macs="0",
    nodes=24,
    usual_sites="end of each residual branch, before the add",
    kind="both",
    reach="positions",
    options=(Option("groups", None, "groups of channels; the largest divisor of C up to 64 and C / 2", minimum=1),),
)


@register(CARD)
class ShuffleAttention(nn.Module):
    """Weigh half of each group of channels by means, half by positions, and shuffle.

    Raises ValueError where the groups do not divide the channels.
    """

    def __init__(self, channels: int, *, groups: int | None = None, init: str = "identity") -> None:
        super().__init__()
        share = channels // divisor(channels, groups, min(64, max(1, channels // 2)), "groups")
        self.odd, self.first = channels % 2, max(1, share // 2)
        self.second = share - self.first
        self.by_mean = _ByMean(self.first)
        self.by_position = _ByPosition(self.second, init) if self.second else nn.Identity()
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated and shuffled features of the same shape."""
        group = x.reshape(-1, self.first + self.second, *x.shape[2:])
        halves = self.by_mean(group[:, : self.first]), self.by_position(group[:, self.first :])
        made = torch.cat(halves, 1).reshape(x.shape)
        return self.outer(x, self._shuffle(made))

    def _shuffle(self, x: Tensor) -> Tensor:
        if self.odd:
            return _take_turns(F.pad(x, (0, 0, 0, 0, 0, 1)))[:, :-1]
        return _take_turns(x)


class _ByMean(nn.Module):
    """Gate channels by their means."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(channels, 1, 1)), nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.weight * x.mean((2, 3), keepdim=True) + self.bias)


class _ByPosition(nn.Module):
    """Gate positions by how far their features are from the mean over the map."""

    def __init__(self, channels: int, init: str) -> None:
        super().__init__()
        self.norm = SafeGroupNorm(channels, channels)
        self.weight = nn.Parameter(torch.full((channels, 1, 1), float(init == "identity")))
        self.bias = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.weight * self.norm(x) + self.bias)


def _take_turns(x: Tensor) -> Tensor:
    """Return the channels with those of the second half between those of the first."""
    return x.reshape(-1, 2, x.shape[1] // 2, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
