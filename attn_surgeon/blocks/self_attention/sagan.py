"""Self-attention of image generators (Zhang et al., 2019, "Self-Attention Generative Adversarial Networks").

f, g, h = W_f x, W_g x, W_h x                 f and g of C / r channels, h of C, without biases
o_j = sum_i β_ji h_i                          β_j = softmax over i of f_i · g_j, not scaled
y = x + γ o                                   γ one number, 0 at first

The paper's last form narrows h too and widens it again after the sum; this is its first and plainer one.
Implementations with biases are `bias=true`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Add
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width
from attn_surgeon.blocks.self_attention.attend import attend, positions, tokens

CARD = Card(
    name="self",
    title="SAGAN's Self-Attention",
    paper="Zhang et al. 2019, Self-Attention Generative Adversarial Networks",
    idea="self-attention among all positions by a narrow query and key, with a learned scale",
    formula="y = x + γ · softmax((W_g x)ᵀ W_f x) W_h x",
    identity="as published: γ = 0",
    parameters="C² + 2Cm + 1, m = max(1, C/r)",
    macs="(C² + 2Cm)·HW + 2C·(HW)²",
    nodes=15,
    usual_sites="between stages, where maps are of middling size",
    kind="self-attention",
    reach="positions",
    options=(
        Option("reduction", 8, "query and key have C / reduction channels", minimum=1),
        Option("bias", False, "whether query and value have biases"),
    ),
)


class Among(nn.Module):
    """Attention among the positions of (N, C, H, W) features by a narrow query and key, without a scale.

    The key never has a bias: a softmax over keys would cancel it, so it could not learn.
    """

    def __init__(self, channels: int, reduction: int, *, bias: bool) -> None:
        super().__init__()
        width = hidden_width(channels, reduction, 1)
        self.query = nn.Conv2d(channels, width, 1, bias=bias)
        self.key = nn.Conv2d(channels, width, 1, bias=False)
        self.value = nn.Conv2d(channels, channels, 1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return the attention output, of the same shape."""
        query, key, value = (tokens(each(x)) for each in (self.query, self.key, self.value))
        return positions(attend(query, key, value, 1.0), x)


@register(CARD)
class SelfAttention(nn.Module):
    """Add to each position of (N, C, H, W) features what it sees of all."""

    def __init__(self, channels: int, *, reduction: int = 8, bias: bool = False, init: str = "identity") -> None:
        super().__init__()
        self.among = Among(channels, reduction, bias=bias)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.gate = Add(init, self, "gamma")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.gate(x, self.gamma * self.among(x))
