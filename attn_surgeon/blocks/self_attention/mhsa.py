"""Multi-head self-attention (Vaswani et al., 2017, "Attention Is All You Need"), among the positions of a map.

q, k, v = W_q x + b_q, W_k x, W_v x + b_v                  each split into heads of width d
y = x + W [softmax(q kᵀ / √d) v for each head] + b

No norm comes before it. By default no position does either: a convolutional network's features know of theirs from its
padding. With relative positions it is the attention of Bottleneck Transformers. The MHSA that many implementations of
these have is `position=absolute`, `scaled=false`, `project=false`, `residual=false` with `window` the side of the map.
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import output_gate
from attn_surgeon.blocks.base.options import RESIDUAL
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.self_attention.attend import MultiHead
from attn_surgeon.blocks.self_attention.relative import WINDOW, AbsoluteHeads, RelativeHeads

BIAS = Option("bias", True, "whether queries and values have biases")
PROJECT = Option("project", True, "whether there is a W; else it is 1, and b 0")
HEADS = Option("heads", None, "groups of channels, each on its own; the largest divisor of C up to C / 32", minimum=1)
CARD = Card(
    name="mhsa",
    title="Multi-Head Self-Attention",
    paper="Vaswani et al. 2017, Attention Is All You Need",
    idea="multi-head self-attention among all positions",
    formula="y = x + W [softmax(q kᵀ / √d) v for each head] + b",
    identity="x + f(x), W = b = 0",
    parameters="4C² + 3C",
    macs="4C²·HW + 2C·(HW)²",
    nodes=16,
    usual_sites="last stages, where maps are small",
    kind="self-attention",
    reach="positions",
    needs_map=("position", ("relative", "absolute")),
    options=(
        HEADS,
        Option(
            "position",
            "none",
            "how positions count in the scores; other than none needs a map",
            choices=("none", "relative", "absolute"),
        ),
        WINDOW,
        BIAS,
        Option("scaled", True, "divide scores by the root of a head's width"),
        PROJECT,
        RESIDUAL,
    ),
)


@register(CARD)
class MultiHeadSelfAttention(nn.Module):
    """Add to each position of (N, C, H, W) features what its heads see of all.

    Raises ValueError where the heads do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int | None = None,
        position: str = "none",
        window: int = 14,
        bias: bool = True,
        scaled: bool = True,
        project: bool = True,
        residual: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        options = {"bias": bias, "scaled": scaled, "project": project}
        if position == "none":
            self.attention = MultiHead(channels, heads, **options)
        else:
            kind = RelativeHeads if position == "relative" else AbsoluteHeads
            self.attention = kind(channels, heads, window, **options)
        self.gate = output_gate(init, self, channels, residual, f"attention.{'project' if project else 'value'}")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.gate(x, self.attention(x))
