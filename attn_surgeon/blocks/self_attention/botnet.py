"""Self-attention with relative positions (Srinivas et al., 2021, "Bottleneck Transformers for Visual Recognition").

a_ij = q_i · (k_j + r^h[row_j − row_i] + r^w[column_j − column_i]) / √d        in each head, r shared by the heads
y = x + W [softmax over j of a_ij, times v_j, for each head] + b

It is `mhsa` with relative positions. The paper adds no x and has no W, for there the block replaces a convolution:
`project=false`, `residual=false`. Implementations that scale q · k and not q · r have tables that are √d of these.
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card
from attn_surgeon.blocks.base.gate import output_gate
from attn_surgeon.blocks.base.options import RESIDUAL
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.self_attention.mhsa import BIAS, HEADS, PROJECT
from attn_surgeon.blocks.self_attention.relative import WINDOW, RelativeHeads

CARD = Card(
    name="botnet",
    title="Bottleneck Transformer's Self-Attention",
    paper="Srinivas et al. 2021, Bottleneck Transformers for Visual Recognition",
    idea="multi-head self-attention with relative position encodings",
    formula="y = x + W [softmax(q (k + r_height + r_width)ᵀ / √d) v for each head] + b",
    identity="x + f(x), W = b = 0",
    parameters="4C² + 3C + 2d(2s - 1), d = C/h, h = max(1, ⌊C/32⌋)",
    macs="4C²·HW + 2(C + h(H + W))·(HW)² + C(H + W)·HW + d(2s - 1)(H² + W²)",
    nodes=27,
    usual_sites="the last stage, in place of or after the 3×3 convolution of a bottleneck",
    kind="self-attention",
    reach="map",
    options=(HEADS, WINDOW, BIAS, PROJECT, RESIDUAL),
)


@register(CARD)
class BottleneckTransformerAttention(nn.Module):
    """Add to each position of (N, C, H, W) features what its heads see of all, by content and by offset.

    Raises ValueError where the heads do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int | None = None,
        window: int = 14,
        bias: bool = True,
        project: bool = True,
        residual: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.attention = RelativeHeads(channels, heads, window, bias=bias, project=project)
        self.gate = output_gate(init, self, channels, residual, f"attention.{'project' if project else 'value'}")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.gate(x, self.attention(x))
