"""Efficient multi-scale attention (Ouyang et al., 2023).

"Efficient Multi-Scale Attention Module with Cross-Spatial Learning"; each group of channels g on its own, all groups
with the same parameters:

u, v = W [mean_w(g); mean_h(g)] + b             one 1×1 convolution of rows and columns
p = gn(g · σ(u) · σ(v)),    q = conv_3×3(g)     gn: each channel on its own
z = softmax(mean_hw(p)) · q + softmax(mean_hw(q)) · p           softmax over, and products summed over, channels
y = g · σ(z)

z is 0 where both p and q are: that takes the norm's weight and bias and the 3×3 convolution as zeros. W starts at a
twentieth of its usual size: features of a high level would otherwise saturate σ(u) before it learns.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.norms import SafeGroupNorm
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor

CARD = Card(
    name="ema",
    title="Efficient Multi-Scale Attention",
    paper="Ouyang et al. 2023, Efficient Multi-Scale Attention Module with Cross-Spatial Learning",
    idea="gate the positions of each channel group by cross-spatial attention between a 1×1 and a 3×3 branch",
    formula="y = x · σ(softmax(mean(p)) q + softmax(mean(q)) p), p = gn(x · σ(u) · σ(v)), q = conv_3×3(x),"
    " u, v = W [mean_w(x); mean_h(x)] + b",
    identity="2σ(z), the norm's weight and bias and the 3×3 convolution = 0",
    parameters="10m² + 4m, m = C/min(32, C/2)",
    macs="Cm·(H + W) + (9Cm + 2C)·HW",
    nodes=36,
    usual_sites="end of each residual branch, before the add; necks of detectors",
    kind="both",
    reach="map",
    options=(Option("groups", None, "groups of channels; the largest divisor of C up to 32 and C / 2", minimum=1),),
)


@register(CARD)
class EfficientMultiScaleAttention(nn.Module):
    """Weigh the positions of each group of channels of (N, C, H, W) features.

    Raises ValueError where the groups do not divide the channels.
    """

    def __init__(self, channels: int, *, groups: int | None = None, init: str = "identity") -> None:
        super().__init__()
        self.share = channels // divisor(channels, groups, min(32, max(1, channels // 2)), "groups")
        self.conv1 = nn.Conv2d(self.share, self.share, 1)
        self.conv3 = nn.Conv2d(self.share, self.share, 3, padding=1)
        self.norm = SafeGroupNorm(self.share, self.share)
        self.gate = Multiply(init, self, "norm", "conv3")
        if init == "identity":
            self.conv1.weight.data *= 0.05

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        group = x.reshape(-1, self.share, *x.shape[2:])
        along, near = self.norm(self._strips(group)), self.conv3(group)
        z = _ask(along, near) + _ask(near, along)
        return self.gate(x, z.expand(-1, self.share, -1, -1).reshape(x.shape))

    def _strips(self, x: Tensor) -> Tensor:
        height = x.shape[2]
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)
        gates = torch.sigmoid(self.conv1(torch.cat((rows, columns), 2)))
        return x * gates[:, :, :height] * gates[:, :, height:].transpose(2, 3)


def _ask(one: Tensor, other: Tensor) -> Tensor:
    """Return the other branch's channels, summed by the softmax of this one's means: (N, 1, H, W)."""
    shares = one.mean((2, 3)).softmax(1).unsqueeze(1)
    return (shares.to(other.dtype) @ other.flatten(2)).reshape(-1, 1, *other.shape[2:])
