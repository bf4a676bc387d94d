"""Squeeze-and-Excitation (Hu et al., 2018, "Squeeze-and-Excitation Networks").

z = W2 · relu(W1 · mean_hw(x) + b1) + b2
y = x · σ(z)

Many implementations have no biases (`bias=false`); MobileNetV3 has a hard sigmoid (`gate=hardsigmoid`), EfficientNet
SiLU in place of ReLU (`activation=silu`). Where networks round the hidden width, `least` or `hidden` is that width:
timm's SE-ResNets have `least=8`.
"""

from __future__ import annotations

from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.options import GATE, HIDDEN, activation_option, least_option, make_activation
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="se",
    title="Squeeze-and-Excitation",
    paper="Hu et al. 2018, Squeeze-and-Excitation Networks",
    idea="weight channels by a bottleneck MLP of their global means",
    formula="y = x · σ(W2 relu(W1 mean(x) + b1) + b2)",
    identity="2σ(z), W2 = b2 = 0",
    parameters="2C²/r + C/r + C",
    macs="2C²/r",
    nodes=7,
    usual_sites="end of each residual branch, before the add",
    kind="channel",
    reach="channels",
    options=(
        Option("reduction", 16, "hidden channels are C / reduction", minimum=1),
        least_option(2),
        HIDDEN,
        Option("bias", True, "whether the two layers have biases"),
        activation_option("relu"),
        GATE,
    ),
)


@register(CARD)
class SqueezeExcite(nn.Module):
    """Weigh the channels of (N, C, H, W) features by a two-layer function of their means."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        least: int = 2,
        hidden: int | None = None,
        bias: bool = True,
        activation: str = "relu",
        gate: str = "sigmoid",
        init: str = "identity",
    ) -> None:
        super().__init__()
        width = hidden_width(channels, reduction, least, hidden)
        self.fc1 = nn.Conv2d(channels, width, 1, bias=bias)
        self.activation = make_activation(activation)
        self.fc2 = nn.Conv2d(width, channels, 1, bias=bias)
        start_hidden(init, self.fc1)
        self.gate = Multiply(init, self, "fc2", function=gate)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        pooled = x.mean((2, 3), keepdim=True)
        return self.gate(x, self.fc2(self.activation(self.fc1(pooled))))
