"""Efficient attention (Shen et al., 2021, "Efficient Attention: Attention with Linear Complexities").

q, k, v = W_q x + b_q, W_k x, W_v x + b_v           of C / r channels each, split into heads
g = softmax_positions(k)ᵀ v                         one value for each channel of the key: a global context
y = x + W (softmax_channels(q) g) + b
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import output_gate
from attn_surgeon.blocks.base.initialisation import start_at_zero
from attn_surgeon.blocks.base.options import RESIDUAL
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width
from attn_surgeon.blocks.self_attention.attend import positions, tokens

CARD = Card(
    name="efficient",
    title="Efficient Attention",
    paper="Shen et al. 2021, Efficient Attention: Attention with Linear Complexities",
    idea="linear-complexity attention: global contexts by softmax over positions, mixed by softmax over channels",
    formula="y = x + W (softmax_channels(q) (softmax_positions(k)ᵀ v)) + b",
    identity="x + f(x), W = b = 0",
    parameters="4Cm + 2m + C, m = max(2, C/r)",
    macs="(4Cm + 2m²/h)·HW",
    nodes=18,
    usual_sites="any stage; where maps are too large for attention among all positions",
    kind="self-attention",
    reach="positions",
    options=(
        Option("reduction", 2, "inner channels are C / reduction, at least 2", minimum=1),
        Option("heads", 1, "groups of inner channels, of two at least, each on its own", minimum=1),
        RESIDUAL,
    ),
)


@register(CARD)
class EfficientAttention(nn.Module):
    """Add to each position of (N, C, H, W) features its own mixture of global contexts.

    Raises ValueError where the heads do not divide the inner channels, or leave a head a single one.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        heads: int = 1,
        residual: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        width = hidden_width(channels, reduction)
        if width % heads or width == heads:  # the softmax of one channel is 1 whatever it holds
            raise ValueError(f"its {width} inner channels are not split by heads={heads} into heads of two or more")
        self.heads = heads
        self.query = nn.Conv2d(channels, width, 1)
        self.key = nn.Conv2d(channels, width, 1, bias=False)  # a softmax over positions cancels a bias
        self.value = nn.Conv2d(channels, width, 1)
        self.project = nn.Conv2d(width, channels, 1)
        self.gate = output_gate(init, self, channels, residual, "project")
        start_at_zero(init, self.query)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        query, key, value = (tokens(each(x), self.heads) for each in (self.query, self.key, self.value))
        context = key.softmax(2).transpose(2, 3) @ value
        return self.gate(x, self.project(positions(query.softmax(3) @ context, x)))
