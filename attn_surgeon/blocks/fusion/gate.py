"""The additive attention gate (Oktay et al., 2018, "Attention U-Net: Learning Where to Look for the Pancreas").

z = bn(ψ · relu(bn(W_x x) + bn(W_g g)))         one channel: how much each position of the skip counts
y = x · σ(z)

The paper's formula has biases and no norms (`norm=false`), and gates at the coarser size of g. The norms are those of
the form in common use, which brings g to the size of x first. With them the convolutions have no biases: the norm
after each would cancel it, so it could not learn. W_x never has one, for W_g's would be the same. In volumes and
sequences the block is the same, with as many dimensions.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.options import least_option
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="gate",
    title="Attention U-Net's Gate",
    paper="Oktay et al. 2018, Attention U-Net: Learning Where to Look for the Pancreas",
    idea="weight the positions of a skip connection by an additive gate of it and the decoder's features",
    formula="f = x · σ(bn(ψ relu(bn(W_x x) + bn(W_g y))))",
    identity="2σ(z), the last norm's weight and bias = 0",
    parameters="2Cm + 5m + 2, m = max(2, C/r)",
    macs="(2Cm + m)·HW",
    nodes=8,
    usual_sites="skip connections, before they are joined; the second input is what they are joined with",
    kind="two inputs",
    reach="positions",
    options=(
        Option("reduction", 2, "hidden channels are C / reduction", minimum=1),
        least_option(2),
        Option("norm", True, "batch norms after the convolutions; without, W_g and ψ have biases"),
    ),
)


@register(CARD)
class AttentionGate(nn.Module):
    """Weigh the positions of (N, C, H, W) features by themselves and by a gating signal of the same shape."""

    def __init__(
        self, channels: int, *, reduction: int = 2, least: int = 2, norm: bool = True, init: str = "identity"
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction, least)
        layer: type[nn.Module] = nn.BatchNorm2d if norm else nn.Identity
        self.conv_x, self.bn_x = nn.Conv2d(channels, hidden, 1, bias=False), layer(hidden)
        self.conv_g, self.bn_g = nn.Conv2d(channels, hidden, 1, bias=not norm), layer(hidden)
        self.psi, self.bn = nn.Conv2d(hidden, 1, 1, bias=not norm), layer(1)
        # pairs of opposite signs in both: then so are their sums, and one of each pair is on
        start_hidden(init, self.conv_x)
        start_hidden(init, self.conv_g)
        self.gate = Multiply(init, self, "bn" if norm else "psi")

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        """Return x, gated."""
        hidden = F.relu(self.bn_x(self.conv_x(x)) + self.bn_g(self.conv_g(g)))
        return self.gate(x, self.bn(self.psi(hidden)))
