"""Lambda layers (Bello, 2021, "LambdaNetworks: Modeling Long-Range Interactions Without Attention").

q = bn(W_q x),  k = softmax_hw(W_k x),  v = bn(W_v x)
λ_p = Σ_m k_m v_mᵀ + Σ_m e_{m−p} v_mᵀ              what all positions hold, and those around p by where they are
f_p = λ_pᵀ q_p                                     for each head; all heads share k and v, and so λ

e is a convolution with one kernel for each channel of the keys, applied to each channel of the values (the paper's
lambda convolution, intra-depth 1). Its kernels are 23 × 23 in the paper and 7 × 7 here, at a tenth of the cost.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.exporting import exporting_onnx
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor
from attn_surgeon.blocks.self_attention.windows import parts_of

CARD = Card(
    name="lambda",
    title="Lambda Layer",
    paper="Bello 2021, LambdaNetworks: Modeling Long-Range Interactions Without Attention",
    idea="summarise the context as a linear function for each position, and apply it to the position's queries",
    formula="f = (k vᵀ + e ∗ v)ᵀ q, q = bn(W_q x), k = softmax(W_k x) over positions, v = bn(W_v x)",
    identity="x + γ(f − x), γ = 0 for each channel",
    parameters="C(hd + d + v) + 2hd + 2v + dk² + C, h = 4, d = 16, v = C/4",
    macs="(C(hd + d + v) + dv + dvk² + hdv)·HW, h = 4, d = 16, v = C/4",
    nodes=19,
    usual_sites="in the later stages, in place of or after 3×3 convolutions",
    kind="self-attention",
    reach="map",
    options=(
        Option("heads", None, "groups of queries and of outputs; the largest divisor of C up to 4", minimum=1),
        Option("key_width", 16, "channels of queries and keys", minimum=1),
        Option("kernel_size", 7, "side of what is around a position", minimum=1, odd=True),
        Option("bias", False, "whether e has a bias for each channel of the keys"),
    ),
)


@register(CARD)
class LambdaLayer(nn.Module):
    """Apply to each position of (N, C, H, W) features a linear function made from all of them.

    Raises ValueError where the heads do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int | None = None,
        key_width: int = 16,
        kernel_size: int = 7,
        bias: bool = False,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.heads = divisor(channels, heads, 4, "heads")
        asked, width = self.heads * key_width, channels // self.heads
        self.query, self.norm_q = nn.Conv2d(channels, asked, 1, bias=False), nn.BatchNorm2d(asked)
        self.key = nn.Conv2d(channels, key_width, 1, bias=False)
        self.value, self.norm_v = nn.Conv2d(channels, width, 1, bias=False), nn.BatchNorm2d(width)
        self.around = nn.Conv2d(1, key_width, kernel_size, padding=kernel_size // 2, bias=bias)
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.outer(x, self._find(x).reshape(x.shape))

    def _find(self, x: Tensor) -> Tensor:
        """Return (N, heads, C / heads, HW)."""
        query = self.norm_q(self.query(x)).flatten(2).unflatten(1, (self.heads, -1))
        key, value = self.key(x).flatten(2).softmax(2), self.norm_v(self.value(x))
        parts = value.chunk(1 if exporting_onnx() else parts_of(value.shape[1]), 1)
        made = (torch.einsum("nhdp,nvdp->nhvp", query, self._lambdas(key, part)) for part in parts)
        return torch.cat([part.contiguous() for part in made], 2)

    def _lambdas(self, key: Tensor, value: Tensor) -> Tensor:
        """Compute a matrix for each position from some of the values: (N, values, keys, HW)."""
        content = value.flatten(2) @ key.transpose(1, 2).to(value.dtype)
        position = self.around(value.reshape(-1, 1, *value.shape[2:])).flatten(2)
        matrices: Tensor = position.reshape(*content.shape, -1) + content.unsqueeze(3)
        return matrices
