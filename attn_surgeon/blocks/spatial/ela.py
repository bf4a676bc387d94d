"""Efficient local attention (Xu & Wan, 2024, "ELA: Efficient Local Attention for Deep Convolutional Neural Networks").

y = x · σ(gn(F_h(mean_w(x)))) · σ(gn(F_w(mean_h(x))))       F: 1-D convolutions along the column, along the row

The paper's versions: T is kernel 5 with 32 groups in the norm, B is kernel 7 with 16, both depthwise; S and L are
kernels 5 and 7 with 16 groups, each output mixing 8 channels. The convolutions have no biases, as published. Rows and
columns have layers of their own, as in the paper's formula; most implementations share one pair (`shared=true`).
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.norms import SafeGroupNorm
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor

CARD = Card(
    name="ela",
    title="Efficient Local Attention",
    paper="Xu & Wan 2024, ELA: Efficient Local Attention for Deep Convolutional Neural Networks",
    idea="gate rows and columns by 1-D convolutions of their means, without mixing channels",
    formula="y = x · σ(gn(F_h(mean_w(x)))) · σ(gn(F_w(mean_h(x)))), F: depthwise 1-D convolutions",
    identity="2σ(z) twice, the norms' weights and biases = 0",
    parameters="2kC + 4C",
    macs="kC·(H + W)",
    nodes=20,
    usual_sites="end of each residual branch, before the add",
    kind="spatial",
    reach="map",
    options=(
        Option("kernel_size", 7, "rows or columns that each gate looks at", minimum=1, odd=True),
        Option("groups", None, "groups of the norm; the largest divisor of C up to 16", minimum=1),
        Option("mixed", 1, "channels that each output of the convolutions mixes; 1 is depthwise", minimum=1),
        Option("shared", False, "whether columns have the convolution and the norm of rows"),
    ),
)


@register(CARD)
class EfficientLocalAttention(nn.Module):
    """Weigh the rows and the columns of (N, C, H, W) features by 1-D convolutions of their means.

    Raises ValueError where the groups, or the mixed channels, do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 7,
        groups: int | None = None,
        mixed: int = 1,
        shared: bool = False,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.shared = shared
        parts, beside = divisor(channels, groups, 16, "groups"), kernel_size // 2
        apart = channels // divisor(channels, mixed, 1, "mixed")
        self.conv_h = nn.Conv2d(channels, channels, (kernel_size, 1), padding=(beside, 0), groups=apart, bias=False)
        if not shared:
            self.conv_w = nn.Conv2d(channels, channels, (1, kernel_size), padding=(0, beside), groups=apart, bias=False)
        self.norm_h = SafeGroupNorm(parts, channels)
        if not shared:
            self.norm_w = SafeGroupNorm(parts, channels)
        self.gate = Multiply(init, self, *(["norm_h"] if shared else ["norm_h", "norm_w"]))

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        rows, columns = x.mean(3, keepdim=True), x.mean(2, keepdim=True)
        gated = self.gate(x, self.norm_h(self.conv_h(rows)))
        if self.shared:
            return self.gate(gated, self.norm_h(self.conv_h(columns.transpose(2, 3))).transpose(2, 3))
        return self.gate(gated, self.norm_w(self.conv_w(columns)))
