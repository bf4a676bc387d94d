"""External attention (Guo et al., 2021, "Beyond Self-Attention: External Attention Using Two Linear Layers").

a = M_k (W_q x)                              S memory slots' likeness to each position
s = softmax of a over positions, then divided by its sum over slots
y = x + W (M_v s) + b

M_k and M_v are shared by all samples; M_v starts as M_k transposed. The sum is taken among logarithms, as
s = softmax_slots(a − logsumexp_positions a), which is the same and needs no small number to divide by. The norm and
the ReLU that follow in the authors' network are left out.
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Add
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="external",
    title="External Attention",
    paper="Guo et al. 2021, Beyond Self-Attention: External Attention Using Two Linear Layers",
    idea="every position looks a value up in a small memory that is learned over all images",
    formula="y = x + W (M_v s) + b, s = softmax_positions(M_k W_q x), divided by its sum over slots",
    identity="x + f(x), W = b = 0",
    parameters="2C² + 2C·64 + C",
    macs="(2C² + 2C·64)·HW",
    nodes=8,
    usual_sites="any stage; its cost is linear in the positions",
    kind="self-attention",
    reach="positions",
    options=(Option("size", 64, "slots of the memory", minimum=2),),
)


@register(CARD)
class ExternalAttention(nn.Module):
    """Add to each position of (N, C, H, W) features what a learned memory holds for it."""

    def __init__(self, channels: int, *, size: int = 64, init: str = "identity") -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels, 1, bias=False)  # a softmax over positions would take a bias off
        self.key_memory = nn.Conv2d(channels, size, 1, bias=False)
        self.value_memory = nn.Conv2d(size, channels, 1, bias=False)
        self.project = nn.Conv2d(channels, channels, 1)
        for layer in (self.query, self.key_memory, self.project):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
        self.value_memory.weight.data.copy_(self.key_memory.weight.data.transpose(0, 1))
        self.gate = Add(init, self, "project")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        likeness = self.key_memory(self.query(x))
        shares = (likeness - likeness.logsumexp((2, 3), keepdim=True)).softmax(1)
        return self.gate(x, self.project(self.value_memory(shares)))
