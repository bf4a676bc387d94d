"""Selective kernels' fusion of two branches (Li et al., 2019, "Selective Kernel Networks").

s = mean_hw(x1 + x2)
h = relu(bn(W s))                                  max(C / r, L) hidden channels
a, b = softmax(A h, B h)                           for each channel, over the two branches
y = a · x1 + b · x2

W has no bias: the norm after it would cancel it, so it could not learn. Implementations without the norm and the ReLU
are `norm=false`, `activation=identity` and `bias=true`. At the identity start 2a stands for
a, so that x1 counts once and x2 not at all. With x1 = x2 the mean is x1 whatever the weights are.
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Mix
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.norms import PooledNorm
from attn_surgeon.blocks.base.options import activation_option, make_activation
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="sk",
    title="Selective Kernel Fusion",
    paper="Li et al. 2019, Selective Kernel Networks",
    idea="a mean of two maps, weighted for each channel by a softmax from their pooled sum",
    formula="f = a · x + b · y, (a, b) = softmax(A h, B h), h = relu(bn(W mean(x + y)))",
    identity="2a instead of a, b = 1 − 2a, A = B = 0",
    parameters="3Cm + 2m, m = max(32, C/r)",
    macs="3Cm",
    nodes=15,
    usual_sites="where two branches of different receptive fields, or a skip, are about to be joined; they must differ",
    kind="two inputs",
    selective=True,
    reach="map",
    options=(
        Option("reduction", 16, "hidden channels are C / reduction", minimum=1),
        Option("least", 32, "but not fewer than this", minimum=2),
        Option("norm", True, "whether a batch norm follows W"),
        activation_option("relu"),
        Option("bias", False, "whether layers that no norm follows have biases"),
    ),
)


@register(CARD)
class SelectiveFusion(nn.Module):
    """Fuse (N, C, H, W) features with others of the same shape by a mean that each channel weighs on its own."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        least: int = 32,
        norm: bool = True,
        activation: str = "relu",
        bias: bool = False,
        init: str = "identity",
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction, least)
        self.reduce = nn.Conv2d(channels, hidden, 1, bias=bias and not norm)
        self.norm = PooledNorm(hidden) if norm else nn.Identity()
        self.activation = make_activation(activation)
        self.choose = nn.Conv2d(hidden, 2 * channels, 1, bias=bias)
        start_hidden(init, self.reduce)
        self.gate = Mix(init, self, "choose")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the fusion of both."""
        hidden = self.activation(self.norm(self.reduce((x + y).mean((2, 3), keepdim=True))))
        weights = self.choose(hidden).unflatten(1, (2, x.shape[1])).softmax(1)
        return self.gate(x, y, weights[:, 0])
