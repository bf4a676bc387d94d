"""External attention (Guo et al., 2021, "Beyond Self-Attention: External Attention Using Two Linear Layers").

a = M_k (W_q x)                              S memory slots' likeness to each position
s = softmax of a over positions, then divided by its sum over slots
y = x + W (M_v s) + b

M_k and M_v are shared by all samples; M_v starts as M_k transposed. The sum is taken among logarithms, as
s = softmax_slots(a − logsumexp_positions a), which is the same and needs no small number to divide by. The authors'
network has a norm after W and a ReLU after the sum (`norm=true`, `activation=relu`, `eps=1e-9`); other implementations
have the memories alone (`project=false`, `residual=false`). With an activation the identity is x + γ(f − x), γ = 0.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import output_gate
from attn_surgeon.blocks.base.options import RESIDUAL, activation_option, make_activation
from attn_surgeon.blocks.base.registry import register

CARD = Card(
    name="external",
    title="External Attention",
    paper="Guo et al. 2021, Beyond Self-Attention: External Attention Using Two Linear Layers",
    idea="attention to a small memory that is learned over all images",
    formula="y = x + W (M_v s) + b, s = softmax_positions(M_k W_q x), divided by its sum over slots",
    identity="x + f(x), W = b = 0",
    parameters="2C² + 2C·64 + C",
    macs="(2C² + 2C·64)·HW",
    nodes=8,
    usual_sites="any stage; its cost is linear in the positions",
    kind="self-attention",
    reach="positions",
    options=(
        Option("size", 64, "slots of the memory", minimum=2),
        Option("project", True, "whether there are W_q and W; else they are 1"),
        Option("norm", False, "whether a batch norm follows W, in place of b"),
        replace(activation_option("identity"), meaning="what follows the sum with the features"),
        Option("eps", 0.0, "added to the sum over slots; 1e-9 in the authors' code", minimum=0.0),
        RESIDUAL,
    ),
)


@register(CARD)
class ExternalAttention(nn.Module):
    """Add to each position of (N, C, H, W) features what a learned memory holds for it."""

    def __init__(
        self,
        channels: int,
        *,
        size: int = 64,
        project: bool = True,
        norm: bool = False,
        activation: str = "identity",
        eps: float = 0.0,
        residual: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.eps, self.residual = eps, residual
        self.query: nn.Module = nn.Identity()
        if project:
            self.query = _layer(channels, channels)  # a softmax over positions cancels a bias
        self.key_memory, self.value_memory = _layer(channels, size), nn.Conv2d(size, channels, 1, bias=False)
        self.project: nn.Module = _layer(channels, channels, bias=not norm) if project else nn.Identity()
        self.value_memory.weight.data.copy_(self.key_memory.weight.data.transpose(0, 1))
        self.bn, self.activation = nn.BatchNorm2d(channels) if norm else nn.Identity(), make_activation(activation)
        added = residual and activation == "identity"
        last = "bn" if norm else "project" if project else "value_memory"
        self.gate = output_gate(init, self, channels, added, last)
        self.inner = residual and not added

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        made = self.bn(self.project(self.value_memory(self._shares(x))))
        return self.gate(x, self.activation(x + made if self.inner else made))

    def _shares(self, x: Tensor) -> Tensor:
        likeness: Tensor = self.key_memory(self.query(x))
        logs = likeness - likeness.logsumexp((2, 3), keepdim=True)
        if not self.eps:
            return logs.softmax(1)
        shares = logs.exp()
        return shares / (self.eps + shares.sum(1, keepdim=True))


def _layer(inputs: int, outputs: int, *, bias: bool = False) -> nn.Conv2d:
    layer = nn.Conv2d(inputs, outputs, 1, bias=bias)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    return layer
