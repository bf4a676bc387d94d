"""Cross-attention (Vaswani et al., 2017, "Attention Is All You Need"), from the positions of one map to another's.

q = W_q gn(x1),   k = W_k gn(x2),   v = W_v gn(x2)
y = x1 + W softmax(q kᵀ / √d) v                    over the positions of x2, for each head; d channels a head

gn normalises each map over channels and positions, as in networks of convolutions: so features far from zero do not
close the softmax, and one channel is enough. W alone has a bias; the norms' stand for the others.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Add
from attn_surgeon.blocks.base.norms import SafeGroupNorm
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor
from attn_surgeon.blocks.self_attention.windows import split_heads

CARD = Card(
    name="cross",
    title="Cross-Attention",
    paper="Vaswani et al. 2017, Attention Is All You Need",
    idea="multi-head attention from the positions of one map to those of another",
    formula="f = x + W [softmax(q kᵀ / √d) v for each head] + b, q = W_q gn(x), k = W_k gn(y), v = W_v gn(y)",
    identity="x + f(x), W = b = 0",
    parameters="4C² + 5C",
    macs="4C²·HW + 2C·(HW)²",
    nodes=31,
    usual_sites="low-resolution maps: where a skip and its decoder, or two views of one image, meet",
    kind="two inputs",
    reach="positions",
    options=(
        Option("heads", None, "groups of channels, each on its own; the largest divisor of C up to 8", minimum=1),
    ),
)


@register(CARD)
class CrossAttention(nn.Module):
    """Add to (N, C, H, W) features what their positions find in others of the same shape.

    Raises ValueError where the heads do not divide the channels.
    """

    def __init__(self, channels: int, *, heads: int | None = None, init: str = "identity") -> None:
        super().__init__()
        self.width = channels // divisor(channels, heads, 8, "heads")
        self.norm_x, self.norm_y = SafeGroupNorm(1, channels), SafeGroupNorm(1, channels)
        self.query = nn.Linear(channels, channels, bias=False)
        self.key, self.value = nn.Linear(channels, channels, bias=False), nn.Linear(channels, channels, bias=False)
        self.project = nn.Linear(channels, channels)
        self.gate = Add(init, self, "project")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return x with what was found in y added."""
        return self.gate(x, self.project(self._find(x, y)).transpose(1, 2).reshape(x.shape))

    def _find(self, x: Tensor, y: Tensor) -> Tensor:
        query = split_heads(self.query(_tokens(self.norm_x(x))), self.width)
        found = F.scaled_dot_product_attention(query, *self._source(_tokens(self.norm_y(y))))
        return found.transpose(1, 2).flatten(2)

    def _source(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        return split_heads(self.key(tokens), self.width), split_heads(self.value(tokens), self.width)


def _tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)
