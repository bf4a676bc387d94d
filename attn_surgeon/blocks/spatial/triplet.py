"""Triplet attention (Misra et al., 2021, "Rotate to Attend: Convolutional Triplet Attention Module").

z_cw = bn(conv_k([max_h(x); mean_h(x)]))        on the map of channels and columns
z_hc = bn(conv_k([max_w(x); mean_w(x)]))        on the map of rows and channels
z_hw = bn(conv_k([max_c(x); mean_c(x)]))        on the map of rows and columns
y = x · (σ(z_cw) + σ(z_hc) + σ(z_hw)) / 3

The mean of the gated features is the features times the mean of the gates. Of three gates of one that is exactly one;
the mean of three copies of x, summed and divided in floating point, is not always x.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.norms import PooledNorm
from attn_surgeon.blocks.base.options import momentum_option
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="triplet",
    title="Triplet Attention",
    paper="Misra et al. 2021, Rotate to Attend: Convolutional Triplet Attention Module",
    idea="gate each pair of channel, height and width by a convolution of max and mean pooling over the third",
    formula="y = x · (σ(z_cw) + σ(z_hc) + σ(z_hw)) / 3, each z = bn(conv_k([max; mean] over the third axis))",
    identity="2σ(z) three times, the norms' weights and biases = 0",
    parameters="6k² + 6",
    macs="2k²·(CW + HC + HW)",
    nodes=27,
    usual_sites="end of each residual branch, before the add",
    kind="spatial",
    reach="map",
    options=(
        Option("kernel_size", 7, "side of the convolutions", minimum=1, odd=True),
        Option("spatial", True, "whether rows and columns have a gate of their own"),
        Option("norm", True, "whether batch norms follow the convolutions"),
        momentum_option(0.01),
    ),
)


@register(CARD)
class TripletAttention(nn.Module):
    """Weigh the pairs of axes of (N, C, H, W) features by convolutions over the maps that they form."""

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        spatial: bool = True,
        norm: bool = True,
        momentum: float = 0.01,
        init: str = "identity",
    ) -> None:
        super().__init__()
        branch = partial(_Branch, kernel_size, momentum if norm else None)
        self.cw, self.hc, self.hw = branch(), branch(), branch() if spatial else None
        names = ["cw", "hc", "hw"] if spatial else ["cw", "hc"]
        self.gate = Multiply(init, self, *(f"{name}.{'bn' if norm else 'conv'}" for name in names), function="")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        gates = [self.cw(x.transpose(1, 2)).transpose(1, 2), self.hc(x.transpose(1, 3)).transpose(1, 3)]
        gates += [] if self.hw is None else [self.hw(x)]
        return self.gate(x, sum(gates) / len(gates))


class _Branch(nn.Module):
    """Compute gates of the last two axes from the maximum and the mean over the second; no norm without a momentum."""

    def __init__(self, kernel_size: int, momentum: float | None) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.Identity() if momentum is None else PooledNorm(1, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
        return torch.sigmoid(self.bn(self.conv(pooled)))
