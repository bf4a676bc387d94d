"""The contextual transformer block (Li et al., 2021, "Contextual Transformer Networks for Visual Recognition").

s = relu(bn(conv_k(x)))                            static context: the keys, each with its surroundings; grouped
a = gn(W2 relu(bn(W1 [x; s])))                     k² weights for each position and each group of channels
d = silu(bn(Σ_k a_k · v_k)),  v = bn(W_v x)        dynamic context: the k × k window around the position, mixed
f = α · d + β · s                                  (α, β) = softmax(B relu(bn(A mean_hw(d + s)))), for each channel

The weights a are normalised over the window's places and all positions (by the authors' code; no softmax). That code
lets channels C / 8 apart share weights (`interleaved=true`), here neighbours do. A bias before a norm could not learn
and is left out, but for W2's, whose norm is over several places.

Many implementations are simpler, `form=plain`: f = s + softmax_hw(mean_k W2 relu(bn(W1 [s; x]))) · v, without W2's
bias, for the softmax would cancel it.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.exporting import exporting_onnx
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.norms import PooledNorm
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor, hidden_width
from attn_surgeon.blocks.self_attention.attend import share as spatial_softmax
from attn_surgeon.blocks.self_attention.windows import parts_of

CARD = Card(
    name="cot",
    title="Contextual Transformer",
    paper="Li et al. 2021, Contextual Transformer Networks for Visual Recognition",
    idea="mix each k×k window by weights from its centre and its static context, and add that context",
    formula="f = α · d + β · s, d = silu(bn(Σ a_k · v_k)), a = gn(W2 relu(bn(W1 [x; s]))), s = relu(bn(conv_k(x)))",
    identity="x + γ(f − x), γ = 0 for each channel",
    parameters="C²k²/g + C² + 2Cm + 2m + mG + 3G + 3Cf + 2f + 9C, f = max(32, C/2), m = max(2, C/2), G = k²C/8, g = 4",
    macs="(C²k²/g + C² + 2Cm + mG)·HW + 3Cf",
    nodes=70,
    usual_sites="in place of or after 3×3 convolutions",
    kind="self-attention",
    reach="map",
    options=(
        Option("kernel_size", 3, "side of the window", minimum=3, odd=True),
        Option("groups", None, "of the static context's convolution; the largest divisor of C up to 4", minimum=1),
        Option("share", None, "channels that share weights; the largest divisor of C up to 8", minimum=1),
        Option("interleaved", False, "channels C / share apart share weights, not neighbours"),
        Option(
            "form", "published", "the paper's, or the plain one of many implementations", choices=("published", "plain")
        ),
    ),
)


@register(CARD)
class ContextualTransformer(nn.Module):
    """Compute from (N, C, H, W) features a static context and a dynamic one that is mixed by it.

    Raises ValueError where groups or shared channels do not divide the channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 3,
        groups: int | None = None,
        share: int | None = None,
        interleaved: bool = False,
        form: str = "published",
        init: str = "identity",
    ) -> None:
        super().__init__()
        groups, sharing = divisor(channels, groups, 4, "groups"), divisor(channels, share, 8, "share")
        self.side, self.sets, hidden = kernel_size, channels // sharing, hidden_width(channels, 2)
        self.interleaved, self.plain, sets = interleaved, form == "plain", channels // sharing
        self.key = nn.Conv2d(channels, channels, kernel_size, padding=kernel_size // 2, groups=groups, bias=False)
        self.norm_k = nn.BatchNorm2d(channels)
        self.reduce, self.norm_a = nn.Conv2d(2 * channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        if self.plain:
            self.weigh = nn.Conv2d(hidden, channels * kernel_size**2, 1, bias=False)
        else:
            self.weigh = nn.Conv2d(hidden, sets * kernel_size**2, 1)
            self.norm_w = nn.GroupNorm(sets, sets * kernel_size**2)
        self.value, self.norm_v = nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels)
        if not self.plain:
            self.norm_d, self.fuse = nn.BatchNorm2d(channels), _Fuse(channels, init)
        start_hidden(init, self.reduce)
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.outer(x, self._contexts(x))

    def _contexts(self, x: Tensor) -> Tensor:
        static = F.relu(self.norm_k(self.key(x)))
        if self.plain:
            value: Tensor = self.norm_v(self.value(x))
            return static + self._shares(x, static) * value
        mixed = self._mix(self.norm_v(self.value(x)), self._weights(x, static))
        fused: Tensor = self.fuse(F.silu(self.norm_d(mixed)), static)
        return fused

    def _shares(self, x: Tensor, static: Tensor) -> Tensor:
        """Return the plain form's softmax over positions, (N, C, H, W)."""
        hidden = F.relu(self.norm_a(self.reduce(torch.cat((static, x), 1))))
        logits = torch.unflatten(self.weigh(hidden), 1, (-1, self.side**2)).mean(2)
        return spatial_softmax(logits).to(x.dtype)

    def _weights(self, x: Tensor, static: Tensor) -> Tensor:
        """Return (N, sets, 1, k², H, W)."""
        hidden = F.relu(self.norm_a(self.reduce(torch.cat((x, static), 1))))
        weights: Tensor = self.norm_w(self.weigh(hidden))
        return weights.reshape(x.shape[0], self.sets, 1, -1, *x.shape[2:])

    def _mix(self, value: Tensor, weights: Tensor) -> Tensor:
        if self.interleaved:
            value = torch.unflatten(value, 1, (-1, self.sets)).transpose(1, 2)
        else:
            value = torch.unflatten(value, 1, (self.sets, -1))
        parts = 1 if exporting_onnx() else parts_of(self.sets)
        pairs = zip(value.chunk(parts, 1), weights.chunk(parts, 1), strict=True)
        mixed = torch.cat([_mix_windows(*pair, self.side) for pair in pairs], 1)
        return (mixed.transpose(1, 2) if self.interleaved else mixed).flatten(1, 2)


class _Fuse(nn.Module):
    """Weigh two contexts in each channel by the mean of their sum."""

    def __init__(self, channels: int, init: str) -> None:
        super().__init__()
        hidden = max(32, channels // 2)
        self.reduce, self.norm = nn.Conv2d(channels, hidden, 1, bias=False), PooledNorm(hidden)
        self.choose = nn.Conv2d(hidden, 2 * channels, 1)
        start_hidden(init, self.reduce)

    def forward(self, dynamic: Tensor, static: Tensor) -> Tensor:
        pooled = dynamic.mean((2, 3), keepdim=True) + static.mean((2, 3), keepdim=True)
        logits = self.choose(F.relu(self.norm(self.reduce(pooled))))
        shares = logits.reshape(logits.shape[0], 2, -1, 1, 1).softmax(1).to(dynamic.dtype)
        return torch.addcmul(dynamic * shares[:, 0], static, shares[:, 1])


def _mix_windows(value: Tensor, weights: Tensor, side: int) -> Tensor:
    """Sum the windows of (N, sets, channels, H, W), each place by its weight; zeros outside the map."""
    height, width = value.shape[3:]
    padded, total = F.pad(value, 4 * [side // 2]), torch.zeros_like(value)
    for place in range(side**2):
        there = padded.narrow(3, place // side, height).narrow(4, place % side, width)
        total = torch.addcmul(total, there, weights[:, :, :, place])
    return total
