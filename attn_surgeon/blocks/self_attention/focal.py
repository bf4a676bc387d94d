"""Focal modulation (Yang et al., 2022, "Focal Modulation Networks").

q, c_0, g = W_q u, W_c u, W_g u                    u = gn(x); g: a gate for each level and for the whole map
c_l = gelu(depthwise_l(c_{l−1}))                   kernels of k, k + 2, k + 4, ...
m = h(Σ_l g_l · c_l + g_∞ · gelu(mean_hw(c_L)))    h: a 1×1 convolution
y = x + W (q · m)

The gates are not squashed, as published. The norm is over channels and positions together, so that one channel is
enough; the authors' module has none and adds no x (`norm=false`, `residual=false`), for their network does.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import output_gate
from attn_surgeon.blocks.base.norms import SafeGroupNorm
from attn_surgeon.blocks.base.options import RESIDUAL
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="focal",
    title="Focal Modulation",
    paper="Yang et al. 2022, Focal Modulation Networks",
    idea="modulate each query by depthwise context of several scales",
    formula="y = x + W(q · h(Σ g_l · c_l + g · gelu(mean(c_L)))), c_l = gelu(depthwise(c_(l-1))), q, c_0, g of gn(x)",
    identity="W = 0, with its bias",
    parameters="4C² + 10C + 4 + C(k² + (k + 2)² + (k + 4)²)",
    macs="(4C² + 4C + C(k² + (k + 2)² + (k + 4)²))·HW",
    nodes=28,
    usual_sites="after stages, at any resolution",
    kind="self-attention",
    reach="map",
    options=(
        Option("levels", 3, "depthwise convolutions, one after the other", minimum=1),
        Option("kernel_size", 3, "side of the first; each is wider by 2", minimum=1, odd=True),
        Option("norm", True, "whether a norm precedes all"),
        RESIDUAL,
    ),
)


@register(CARD)
class FocalModulation(nn.Module):
    """Add to (N, C, H, W) features their queries times what is around them."""

    def __init__(
        self,
        channels: int,
        *,
        levels: int = 3,
        kernel_size: int = 3,
        norm: bool = True,
        residual: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.norm = SafeGroupNorm(1, channels) if norm else nn.Identity()
        self.query, self.context = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.gates = nn.Conv2d(channels, levels + 1, 1)
        self.levels = nn.ModuleList(
            nn.Conv2d(channels, channels, side, padding=side // 2, groups=channels, bias=False)
            for side in range(kernel_size, kernel_size + 2 * levels, 2)
        )
        self.modulate, self.project = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 1)
        self.gate = output_gate(init, self, channels, residual, "project")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, with what was made added."""
        return self.gate(x, self.project(self._make(self.norm(x))))

    def _make(self, x: Tensor) -> Tensor:
        modulator = self.modulate(self._gather(x))
        made: Tensor = self.query(x) * modulator
        return made

    def _gather(self, x: Tensor) -> Tensor:
        *gates, last = self.gates(x).split(1, 1)
        context, total = self.context(x), torch.zeros_like(last)
        for level, gate in zip(self.levels, gates, strict=True):
            context = F.gelu(level(context))
            total = torch.addcmul(total, context, gate)
        return torch.addcmul(total, F.gelu(context.mean((2, 3), keepdim=True)), last)
