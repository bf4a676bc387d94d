"""Attention of blocks to their surroundings.

Vaswani et al., 2021, "Scaling Local Self-Attention for Parameter Efficient Visual Backbones":

q, k, v = W_q gn(x), W_k gn(x), W_v gn(x)
y = x + W softmax(q kᵀ / √d) v                     from each block of b × b positions to it and a halo of h around

Positions outside the map are no keys. There are no relative positions: the paper adds q · r to the scores, which would
have to be held for every pair. The norm is over channels and positions, so that one channel is enough; W alone has a
bias, as the norm's stands for the others.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Add
from attn_surgeon.blocks.base.norms import SafeGroupNorm
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor
from attn_surgeon.blocks.self_attention.windows import cut, inside, join, parts_of, run_parts, split_heads

CARD = Card(
    name="halo",
    title="Halo Attention",
    paper="Vaswani et al. 2021, Scaling Local Self-Attention for Parameter Efficient Visual Backbones",
    idea="local self-attention of blocks to themselves and a halo around them",
    formula="y = x + W softmax(q kᵀ / √d) v from blocks to blocks with a halo, (q, k, v) = W_qkv gn(x)",
    identity="W = 0, with its bias",
    parameters="4C² + 3C",
    macs="4C²·HW + 2CPw², P = b²·⌊(H + b - 1)/b⌋·⌊(W + b - 1)/b⌋, w = b + 2e, e = 3, b = 8",
    nodes=55,
    usual_sites="in the later stages, in place of or after 3×3 convolutions",
    kind="self-attention",
    reach="map",
    options=(
        Option("block", 8, "side of a block", minimum=1),
        Option("halo", 3, "positions around a block that it looks at too", minimum=0),
        Option("heads", None, "groups of channels, each on its own; the largest divisor of C up to 8", minimum=1),
    ),
)


@register(CARD)
class HaloAttention(nn.Module):
    """Add to (N, C, H, W) features what positions find around their blocks.

    Raises ValueError where the heads do not divide the channels, or there is nothing to look at.
    """

    def __init__(
        self,
        channels: int,
        *,
        block: int = 8,
        halo: int = 3,
        heads: int | None = None,
        init: str = "identity",
    ) -> None:
        super().__init__()
        heads = divisor(channels, heads, 8, "heads")
        if block + halo == 1:
            raise ValueError("with block=1 and halo=0 each position would look at itself alone")
        self.block, self.halo, parts = block, halo, parts_of(heads)
        self.norm = SafeGroupNorm(1, channels)
        self.parts = nn.ModuleList(_Heads(channels, channels // parts, heads // parts) for _ in range(parts))
        self.project = nn.Conv2d(channels, channels, 1)
        self.gate = Add(init, self, "project")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, with what was found added."""
        return self.gate(x, self.project(self._find(x)))

    def _find(self, x: Tensor) -> Tensor:
        normal, seen = self.norm(x), inside(x, self.block, halo=self.halo)
        return run_parts(self.parts, 1, normal, seen, self.block, self.halo)


class _Heads(nn.Module):
    """Some of the heads."""

    def __init__(self, channels: int, width: int, heads: int) -> None:
        super().__init__()
        self.width = width // heads
        self.query, self.key, self.value = (nn.Conv2d(channels, width, 1, bias=False) for _ in range(3))

    def forward(self, x: Tensor, seen: Tensor, block: int, halo: int) -> Tensor:
        """Return the attention of (N, C, H, W) positions to their surroundings inside the map, (…, 1, 1, side²)."""
        query = split_heads(cut(self.query(x), block), self.width)
        key, value = (split_heads(cut(layer(x), block, halo=halo), self.width) for layer in (self.key, self.value))
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=seen)
        return join(found.transpose(1, 2).flatten(2), x, block)
