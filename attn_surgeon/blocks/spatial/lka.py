"""Large kernel attention (Guo et al., 2022, "Visual Attention Network").

y = x · (W d(l(x)) + b)         l: depthwise of side 2d − 1, d: depthwise of side k dilated by d, W: 1×1

No sigmoid: what the features are multiplied by is what the convolutions make. With W = 0 and b = 1 that is one.
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.spatial.projected import PROJECTIONS, Projected

CARD = Card(
    name="lka",
    title="Large Kernel Attention",
    paper="Guo et al. 2022, Visual Attention Network",
    idea="multiply features by a large-kernel convolution of them, decomposed into three small ones",
    formula="y = x · (W d(l(x)) + b), l: depthwise convolution, d: depthwise and dilated",
    identity="W = 0, b = 1",
    parameters="C² + (25 + k²)C + 3C",
    macs="(C² + (25 + k²)C)·HW",
    nodes=4,
    usual_sites="in place of a transformer's token mixer; end of each residual branch",
    kind="spatial",
    reach="map",
    options=(
        Option("kernel_size", 7, "side of the dilated convolution", minimum=1, odd=True),
        Option("dilation", 3, "steps between its taps; the convolution before it has side 2 · dilation − 1", minimum=1),
        PROJECTIONS,
    ),
)


@register(CARD)
class LargeKernelAttention(nn.Module):
    """Multiply (N, C, H, W) features by a large depthwise convolution of them, mixed over channels."""

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        dilation: int = 3,
        projections: bool = False,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.projected: Projected | None = None
        if projections:
            inner = LargeKernelAttention(channels, kernel_size=kernel_size, dilation=dilation, init="paper")
            self.projected = Projected(channels, inner, init)
            return
        self.near = depthwise(channels, 2 * dilation - 1)
        self.far = depthwise(channels, kernel_size, dilation)
        self.mix = nn.Conv2d(channels, channels, 1)
        self.gate = Multiply(init, self, "mix", function="", rest=1.0, bias=1.0)

    def forward(self, x: Tensor) -> Tensor:
        """Return the product, of the same shape."""
        if self.projected is not None:
            return self.projected(x)  # type: ignore[no-any-return]
        return self.gate(x, self.mix(self.far(self.near(x))))


def depthwise(channels: int, side: int, dilation: int = 1) -> nn.Conv2d:
    """Return a convolution of each channel on its own that keeps the map's size."""
    beside = side // 2 * dilation
    return nn.Conv2d(channels, channels, side, padding=beside, dilation=dilation, groups=channels)
