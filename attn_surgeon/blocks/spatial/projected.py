"""A block between two projections, as visual attention networks have it (Guo et al., 2022).

y = x + P2 f(gelu(P1 x)) + b2
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Option
from attn_surgeon.blocks.base.gate import Add

PROJECTIONS = Option("projections", False, "y = x + P2 f(gelu(P1 x)), as the authors' networks have it, not y = f(x)")


class Projected(nn.Module):
    """Run a block on (N, C, H, W) features between two 1×1 convolutions, and add the features."""

    def __init__(self, channels: int, block: nn.Module, init: str) -> None:
        super().__init__()
        self.enter, self.block, self.leave = nn.Conv2d(channels, channels, 1), block, nn.Conv2d(channels, channels, 1)
        self.gate = Add(init, self, "leave", closes_all=True)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.gate(x, self.leave(self.block(F.gelu(self.enter(x)))))
