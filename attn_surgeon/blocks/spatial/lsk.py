"""Large selective kernel (Li et al., 2023, "Large Selective Kernel Network for Remote Sensing Object Detection").

u = l(x), v = d(u)                              depthwise 5×5, then depthwise 7×7 dilated by 3
a = [P u; Q v]                                  1×1 convolutions to C / r channels each
s, t = σ(conv_k([mean_c(a); max_c(a)]))         how much each position takes of either
y = x · (W (s · P u + t · Q v) + b)

With W = 0 and b = 1 features are multiplied by one.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.initialisation import start_at_zero
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width
from attn_surgeon.blocks.spatial.lka import depthwise
from attn_surgeon.blocks.spatial.projected import PROJECTIONS, Projected

CARD = Card(
    name="lsk",
    title="Large Selective Kernel",
    paper="Li et al. 2023, Large Selective Kernel Network for Remote Sensing Object Detection",
    idea="select between two receptive fields at each position, and multiply the features by the result",
    formula="y = x · (W (s · P l(x) + t · Q d(l(x))) + b), s, t = σ(conv_k([mean_c; max_c])), l: depthwise 5×5, d: 7×7",
    identity="W = 0, b = 1; the choice starts even",
    parameters="3Cm + 2m + 77C + 4k² + 2, m = max(1, C/r)",
    macs="(3Cm + 74C + 4k²)·HW",
    nodes=20,
    usual_sites="in place of a transformer's token mixer; end of each residual branch",
    kind="spatial",
    reach="map",
    options=(
        Option("reduction", 2, "channels of each surrounding are C / reduction", minimum=1),
        Option("kernel_size", 7, "side of the choosing convolution", minimum=1, odd=True),
        PROJECTIONS,
    ),
)


@register(CARD)
class LargeSelectiveKernel(nn.Module):
    """Multiply (N, C, H, W) features by a blend of two surroundings that each position chooses."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        kernel_size: int = 7,
        projections: bool = False,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.projected: Projected | None = None
        if projections:
            inner = LargeSelectiveKernel(channels, reduction=reduction, kernel_size=kernel_size, init="paper")
            start_at_zero(init, inner.get_submodule("choose"))
            self.projected = Projected(channels, inner, init)
            return
        hidden = hidden_width(channels, reduction, 1)
        self.near, self.far = depthwise(channels, 5), depthwise(channels, 7, 3)
        self.reduce_near, self.reduce_far = nn.Conv2d(channels, hidden, 1), nn.Conv2d(channels, hidden, 1)
        self.choose = nn.Conv2d(2, 2, kernel_size, padding=kernel_size // 2)
        self.mix = nn.Conv2d(hidden, channels, 1)
        self.gate = Multiply(init, self, "mix", function="", rest=1.0, bias=1.0)
        start_at_zero(init, self.choose)  # features of a high level would saturate the choice before it learns

    def forward(self, x: Tensor) -> Tensor:
        """Return the product, of the same shape."""
        if self.projected is not None:
            return self.projected(x)  # type: ignore[no-any-return]
        near = self.near(x)
        near, far = self.reduce_near(near), self.reduce_far(self.far(near))
        seen = torch.cat((near, far), 1)
        choice = torch.sigmoid(self.choose(torch.cat((seen.mean(1, keepdim=True), seen.amax(1, keepdim=True)), 1)))
        return self.gate(x, self.mix(near * choice[:, :1] + far * choice[:, 1:]))
