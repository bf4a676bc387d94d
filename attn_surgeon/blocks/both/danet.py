"""Dual attention (Fu et al., 2019, "Dual Attention Network for Scene Segmentation").

pam:     y = x + γ p(x),   p_j = sum_i softmax over i of (q_j · k_i) v_i          q, k, v: 1×1 convolutions of x
cam:     y = x + γ c(x),   c = softmax(max − X Xᵀ) X                              X: x as C rows of H · W
danet:   y = x + α p(x) + β c(x)

The authors' network sums y of both halves, each after convolutions of its own; here x counts once and there are none.
As in their code the affinity of two channels is subtracted from the row's largest: the least similar count most. In the
softmax the largest cancels. All scales are one number, 0 at first.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Add
from attn_surgeon.blocks.base.norms import at_least_float
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.self_attention.sagan import Among

_PAPER = "Fu et al. 2019, Dual Attention Network for Scene Segmentation"
_SCALE = 4096  # keeps sums over a map within half precision, which autocast takes them in; exact as a power of two
_REDUCTION = Option("reduction", 8, "query and key have C / reduction channels", minimum=1)


@register(
    Card(
        name="pam",
        title="DANet's position half",
        paper=_PAPER,
        idea="self-attention among all positions, with a learned scale",
        formula="y = x + γ · softmax(q kᵀ) v",
        identity="as published: γ = 0",
        parameters="C² + 2Cm + m + C + 1, m = max(1, C/r)",
        macs="(C² + 2Cm)·HW + 2C·(HW)²",
        nodes=15,
        usual_sites="after the last stage of a segmentation network",
        kind="self-attention",
        reach="positions",
        options=(_REDUCTION,),
    )
)
class PositionAttention(nn.Module):
    """Add to each position of (N, C, H, W) features what it sees of all."""

    def __init__(self, channels: int, *, reduction: int = 8, init: str = "identity") -> None:
        super().__init__()
        self.among = Among(channels, reduction, bias=True)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.gate = Add(init, self, "gamma")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.gate(x, self.gamma * self.among(x))


@register(
    Card(
        name="cam",
        title="DANet's channel half",
        paper=_PAPER,
        idea="each channel adds a softmax mixture of all channels, the least similar weighted most",
        formula="y = x + γ · softmax(max − X Xᵀ) X",
        identity="as published: γ = 0",
        parameters="1",
        macs="2C²·HW",
        nodes=10,
        usual_sites="after the last stage of a segmentation network",
        kind="channel",
        reach="channels",
    )
)
class ChannelAffinity(nn.Module):
    """Add to each channel of (N, C, H, W) features a mixture of all."""

    def __init__(self, channels: int, *, init: str = "identity") -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1))
        self.gate = Add(init, self, "gamma")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.gate(x, self.gamma * mix_channels(x))


@register(
    Card(
        name="danet",
        title="Dual Attention",
        paper=_PAPER,
        idea="position attention and channel attention of the same features, summed",
        formula="y = x + α · softmax(q kᵀ) v + β · softmax(max − X Xᵀ) X",
        identity="as published: α = β = 0",
        parameters="C² + 2Cm + m + C + 2, m = max(1, C/r)",
        macs="(3C² + 2Cm)·HW + 2C·(HW)²",
        nodes=25,
        usual_sites="after the last stage of a segmentation network",
        kind="both",
        reach="positions",
        options=(_REDUCTION,),
    )
)
class DualAttention(nn.Module):
    """Add to (N, C, H, W) features what positions see of one another, and what channels do."""

    def __init__(self, channels: int, *, reduction: int = 8, init: str = "identity") -> None:
        super().__init__()
        self.among = Among(channels, reduction, bias=True)
        self.alpha = nn.Parameter(torch.zeros(1))
        self.beta = nn.Parameter(torch.zeros(1))
        self.gate = Add(init, self, "alpha", "beta")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.gate(x, self.alpha * self.among(x) + self.beta * mix_channels(x))


def mix_channels(x: Tensor) -> Tensor:
    """Return for each channel of (N, C, H, W) a mixture of all, of the least similar most."""
    flat = x.flatten(2)
    wide = at_least_float(flat)
    scaled = (wide / _SCALE) @ wide.transpose(1, 2)
    shares = (-_SCALE * scaled.to(wide.dtype)).softmax(2).to(x.dtype)
    return torch.unflatten(shares @ flat, 2, x.shape[2:])
