"""Efficient channel attention (Wang et al., 2020, "ECA-Net: Efficient Channel Attention for Deep CNNs").

z = conv1d_k(mean_hw(x))        over neighbouring channels, no bias; zeros beyond the ends, or the other end
y = x · σ(z)
k = t where t is odd, else t + 1, with t = ⌊|log2(C) + b| / γ⌋
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.options import GATE
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="eca",
    title="Efficient Channel Attention",
    paper="Wang et al. 2020, ECA-Net: Efficient Channel Attention for Deep CNNs",
    idea="weight channels by a 1-D convolution over their global means; a handful of parameters",
    formula="y = x · σ(conv1d_k(mean(x)))",
    identity="2σ(z), conv1d = 0",
    parameters="k, k = 2⌊t/2⌋ + 1, t = ⌊log2(2C)/2⌋",
    macs="kC",
    nodes=7,
    usual_sites="end of each residual branch, before the add",
    kind="channel",
    reach="channels",
    options=(
        Option("kernel_size", None, "channels each gate looks at; from C where not given", minimum=1, odd=True),
        Option("gamma", 2.0, "γ in the kernel's size t = ⌊|log2(C) + b| / γ⌋, plus 1 where that is even", minimum=0.1),
        Option("b", 1.0, "b in the kernel's size"),
        Option("circular", False, "the last channel's neighbour is the first; else zeros are beyond both ends"),
        GATE,
    ),
)


@register(CARD)
class EfficientChannelAttention(nn.Module):
    """Weigh the channels of (N, C, H, W) features by a 1-D convolution over their means."""

    ring: Tensor | None

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int | None = None,
        gamma: float = 2.0,
        b: float = 1.0,
        circular: bool = False,
        gate: str = "sigmoid",
        init: str = "identity",
    ) -> None:
        super().__init__()
        size = kernel_size or adaptive_kernel(channels, gamma, b)
        self.conv = nn.Conv1d(1, 1, size, padding=0 if circular else size // 2, bias=False)
        self.register_buffer("ring", _ring(channels, size // 2) if circular else None, persistent=False)
        self.gate = Multiply(init, self, "conv", function=gate)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        means = x.mean((2, 3))
        z = self.conv((means if self.ring is None else means[:, self.ring]).unsqueeze(1))
        return self.gate(x, z.transpose(1, 2).unsqueeze(-1))


def adaptive_kernel(channels: int, gamma: float = 2.0, b: float = 1.0) -> int:
    """Return the kernel size for a number of channels, by the paper's formula."""
    t = int(abs(math.log2(channels) + b) / gamma)
    return t if t % 2 else t + 1


def _ring(channels: int, reach: int) -> Tensor:
    """Number the channels from so many before the first to so many after the last, going round."""
    return torch.arange(-reach, channels + reach) % channels
