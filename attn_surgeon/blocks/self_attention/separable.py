"""Separable self-attention (Mehta & Rastegari, 2022, "Separable Self-attention for Mobile Vision Transformers").

c = sum_i s_i (W_k x_i + b_k)                  s = softmax over positions i of w · x_i: one score for each position
y = x + W (relu(W_v x + b_v) · c) + b

The norm that comes before it in the paper's transformer is left out, and all positions of the map are attended to.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card
from attn_surgeon.blocks.base.gate import output_gate
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.options import RESIDUAL
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width
from attn_surgeon.blocks.self_attention.attend import share

CARD = Card(
    name="separable",
    title="Separable Self-Attention",
    paper="Mehta & Rastegari 2022, Separable Self-attention for Mobile Vision Transformers",
    idea="linear-complexity self-attention by one context vector for all positions",
    formula="y = x + W (relu(W_v x + b_v) · c) + b, c = sum(softmax(w · x) (W_k x + b_k))",
    identity="x + f(x), W = b = 0",
    parameters="3C² + 4C",
    macs="(3C² + C)·HW",
    nodes=12,
    usual_sites="late stages of mobile networks; its cost is linear in the positions",
    kind="self-attention",
    reach="positions",
    options=(RESIDUAL,),
)


@register(CARD)
class SeparableAttention(nn.Module):
    """Add to each position of (N, C, H, W) features its values, weighed by one context of the whole map."""

    def __init__(self, channels: int, *, residual: bool = True, init: str = "identity") -> None:
        super().__init__()
        width = hidden_width(channels, 1)
        self.score = nn.Conv2d(channels, 1, 1, bias=False)  # a softmax over positions cancels a bias
        self.key = nn.Conv2d(channels, width, 1)
        self.value = nn.Conv2d(channels, width, 1)
        self.project = nn.Conv2d(width, channels, 1)
        start_hidden(init, self.value)
        self.gate = output_gate(init, self, channels, residual, "project")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        context = (self.key(x) * share(self.score(x))).sum((2, 3), keepdim=True)
        return self.gate(x, self.project(F.relu(self.value(x)) * context))
