"""Global context block (Cao et al., 2019, "GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond").

c = Σ_p softmax_p(w · x_p) x_p       attention pooling, or the mean over positions
t(c) = W2 relu(ln(W1 c + b1)) + b2   ln over the hidden channels
y = x + t(c)                         add; mul: y = x · σ(t(c)); both: y = x · σ(t1(c)) + t2(c)

W2 and b2 are 0 at first, as in the authors' code. The attention has no bias, which its softmax would cancel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Add, Multiply
from attn_surgeon.blocks.base.options import least_option
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="gc",
    title="Global Context Block",
    paper="Cao et al. 2019, GCNet: Non-local Networks Meet Squeeze-Excitation Networks and Beyond",
    idea="pool positions by one attention map for all queries, and add a bottleneck transform of the result everywhere",
    formula="y = x + W2 relu(ln(W1 c + b1)) + b2, c = Σ softmax(w · x) x; or its sigmoid as a gate, or both",
    identity="as published: W2 = b2 = 0; a gate is 2σ(z) instead of σ(z)",
    parameters="2Cm + 3m + 2C, m = max(4, C/r)",
    macs="2C·HW + 2Cm",
    nodes=12,
    usual_sites="end of each residual branch, before the add",
    kind="channel",
    reach="positions",
    options=(
        Option("reduction", 16, "hidden channels are C / reduction", minimum=1),
        least_option(4),
        Option("eps", 1e-5, "ε of the layer norm; 1e-6 in timm", minimum=1e-12),
        Option("pooling", "attention", "how positions are pooled", choices=("attention", "mean")),
        Option("fusion", "add", "what is done with the transform", choices=("add", "mul", "both")),
    ),
)


@register(CARD)
class GlobalContext(nn.Module):
    """Add a function of the attended context of (N, C, H, W) features to each position, or gate channels by it."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        least: int = 4,
        eps: float = 1e-5,
        pooling: str = "attention",
        fusion: str = "add",
        init: str = "identity",
    ) -> None:
        super().__init__()
        # two channels normalised over channels are 1 and -1 whatever they were
        hidden = hidden_width(channels, reduction, least)
        self.mask = nn.Conv2d(channels, 1, 1, bias=False) if pooling == "attention" else None
        self.mul = None if fusion == "add" else _transform(channels, hidden, eps)
        self.add = None if fusion == "mul" else _transform(channels, hidden, eps)
        self.gate = None if self.mul is None else Multiply(init, self, "mul.3")
        self.sum = None if self.add is None else Add(init, self, "add.3")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        context = self._pooled(x)
        y = x if self.mul is None or self.gate is None else self.gate(x, self.mul(context))
        return y if self.add is None or self.sum is None else self.sum(y, self.add(context))

    def _pooled(self, x: Tensor) -> Tensor:
        if self.mask is None:
            return x.mean((2, 3), keepdim=True)
        shares = self.mask(x).flatten(2).softmax(-1)
        return torch.matmul(x.flatten(2), shares.transpose(1, 2)).unsqueeze(-1)


def _transform(channels: int, hidden: int, eps: float) -> nn.Sequential:
    last = nn.Conv2d(hidden, channels, 1)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.LayerNorm((hidden, 1, 1), eps=eps), nn.ReLU(), last)
