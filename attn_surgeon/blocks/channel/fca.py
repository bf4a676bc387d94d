"""Frequency channel attention (Qin et al., 2021, "FcaNet: Frequency Channel Attention Networks").

f_c = mean_ij x_cij · w_u(i, H) · w_v(j, W)      one of n frequencies (u, v) for each of n groups of channels
w_u(i, H) = cos(π u ⌊H/7⌋ (i + 1/2) / H)         with 1 for ⌊H/7⌋ where H is less than 7
y = x · σ(W2 relu(W1 f))

The frequencies are the authors' choice by accuracy, best first, among 7 × 7 for a map of any size. Their code pools
maps to one side first (`size`: 56, 28, 14 or 7 there) and sums over positions, with factors that make the waves
orthonormal. The mean here keeps one scale at every size, and makes the first frequency, (0, 0), that of
squeeze-and-excitation. Where n does not divide C, groups differ by one channel.
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
from attn_surgeon.blocks.base.pooling import pooling_matrix
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

# the frequencies along the height, and those along the width
TOP = ("00600114513000324635526553342261", "01052020060463526333511242113053")
CARD = Card(
    name="fca",
    title="Frequency Channel Attention",
    paper="Qin et al. 2021, FcaNet: Frequency Channel Attention Networks",
    idea="squeeze-and-excitation that pools by DCT frequencies, of which the mean is the first",
    formula="y = x · σ(W2 relu(W1 f)), f = mean(x · waves)",
    identity="2σ(z), W2 = 0",
    parameters="2C²/r",
    macs="2C²/r",
    nodes=10,
    usual_sites="end of each residual branch, before the add",
    kind="channel",
    reach="map",
    options=(
        Option("reduction", 16, "hidden channels are C / reduction, at least 2", minimum=1),
        least_option(2),
        Option("frequencies", 16, "how many waves, the best first; 1 is the mean", minimum=1, maximum=len(TOP[0])),
        Option("size", None, "side to which maps are pooled, for sums by orthonormal waves", minimum=1),
    ),
)


@register(CARD)
class FrequencyAttention(nn.Module):
    """Weigh the channels of (N, C, H, W) features by a two-layer function of their frequencies."""

    down: Tensor
    along: Tensor

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        least: int = 2,
        frequencies: int = 16,
        size: int | None = None,
        init: str = "identity",
    ) -> None:
        super().__init__()
        hidden, self.size = hidden_width(channels, reduction, least), size
        self.fc1 = nn.Conv2d(channels, hidden, 1, bias=False)
        self.fc2 = nn.Conv2d(hidden, channels, 1, bias=False)
        for name, chosen in zip(("down", "along"), TOP, strict=True):
            self.register_buffer(name, _spread(chosen, channels, min(frequencies, channels)), persistent=False)
        start_hidden(init, self.fc1)
        self.gate = Multiply(init, self, "fc2")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        return self.gate(x, self.fc2(F.relu(self.fc1(self._pooled(x)))))

    def _pooled(self, x: Tensor) -> Tensor:
        if self.size is not None:
            x = pooling_matrix(self.size, x.shape[2], x) @ x @ pooling_matrix(self.size, x.shape[3], x).T
        down = _waves(self.down, x.shape[2]).unsqueeze(2).to(x.dtype)
        along = _waves(self.along, x.shape[3]).unsqueeze(1).to(x.dtype)
        if self.size is None:
            return ((x * along).mean(3, keepdim=True) * down).mean(2, keepdim=True)
        summed = ((x * along).sum(3, keepdim=True) * down).sum(2, keepdim=True)
        scale = (1 + (self.down > 0)) * (1 + (self.along > 0))  # 2 for each wave that is no mean
        root = scale.to(torch.promote_types(x.dtype, torch.float32)).sqrt()
        return summed * (root / self.size).to(x.dtype).reshape(-1, 1, 1)


def _spread(chosen: str, channels: int, count: int) -> Tensor:
    """Return the frequency of each channel, its group's."""
    return torch.tensor([float(frequency) for frequency in chosen])[torch.arange(channels) * count // channels]


def _waves(frequencies: Tensor, size: int) -> Tensor:
    """Return the cosine of each channel over so many positions, as (C, size)."""
    wide = torch.promote_types(frequencies.dtype, torch.float32)
    places = torch.arange(size, device=frequencies.device, dtype=wide) + 0.5
    length = places.amax(0) + 0.5
    # tensors, for a size that is left open has no maximum of itself and 1
    cycles = frequencies.to(wide) * (length / 7).floor().clamp(min=1)
    return torch.cos(math.pi / length * cycles.unsqueeze(1) * places)
