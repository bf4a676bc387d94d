"""ParNet's block (Goyal et al., 2021, "Non-deep Networks").

u = bn(x)
y = silu(bn(conv_1×1(x)) + bn(conv_3×3(x)) + u · σ(W mean_hw(u) + b))      the last is skip-squeeze-excitation

The identity is x + γ(y − x) with γ = 0. Its norms begin with weights of a tenth: features of a high level, which fresh
statistics do not remove, would otherwise saturate units of the SiLU for good.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="parnet",
    title="ParNet Block",
    paper="Goyal et al. 2021, Non-deep Networks",
    idea="the sum of a 1×1 convolution, a 3×3 convolution and a skip-squeeze-excitation branch",
    formula="y = silu(bn(conv_1×1(x)) + bn(conv_3×3(x)) + u · σ(W mean(u) + b)), u = bn(x)",
    identity="x + γ(f − x), γ = 0 for each channel",
    parameters="11C² + 8C",
    macs="10C²·HW + C²",
    nodes=14,
    usual_sites="after stages; end of residual branches of small networks",
    kind="both",
    reach="map",
    options=(Option("norm", True, "whether a batch norm precedes the skip-squeeze-excitation"),),
)


@register(CARD)
class ParNetBlock(nn.Module):
    """Sum convolutions of (N, C, H, W) features and their channels weighed by means."""

    def __init__(self, channels: int, *, norm: bool = True, init: str = "identity") -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        self.conv3, self.bn3 = nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels)
        self.bn = nn.BatchNorm2d(channels) if norm else nn.Identity()
        self.fc = nn.Conv2d(channels, channels, 1)
        if init == "identity":
            for each in (self.bn1, self.bn3, self.bn):
                if isinstance(each, nn.BatchNorm2d):
                    nn.init.constant_(each.weight, 0.1)
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        skip = self.bn(x)
        excited = skip * torch.sigmoid(self.fc(skip.mean((2, 3), keepdim=True)))
        return self.outer(x, F.silu(self.bn1(self.conv1(x)) + self.bn3(self.conv3(x)) + excited))
