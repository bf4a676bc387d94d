"""Soft attention over positions (Xu et al., 2015, "Show, Attend and Tell"), from a small convolutional network.

z = W2 relu(conv_k(x))                             one channel, or `per_channel` as many as x
sigmoid:  y = x · σ(z)
softmax:  y = x · HW · softmax_hw(z)               a flat map weighs everything by 1

The softmax is HW · e / Σ e with e = exp(z − max z): of a flat map all e are 1, their sum is HW without rounding, and
HW / HW is 1 in every precision. There are no biases here: a softmax cancels the last one, and what the bias of a
hidden unit that is active everywhere adds.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.options import least_option
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="soft",
    title="Soft Attention",
    paper="Xu et al. 2015, Show, Attend and Tell",
    idea="weight each position by a small convolutional network",
    formula="y = x · σ(W2 relu(conv_k(x)) + b2), or x · HW · softmax(W2 relu(conv_k(x)))",
    identity="2σ(z), or HW · softmax(z); W2 = b2 = 0",
    parameters="Cmk² + 2m + 1, m = max(2, C/r)",
    macs="(Cmk² + m)·HW",
    nodes=6,
    usual_sites="end of each residual branch, before the add; after stages",
    kind="spatial",
    reach="map",
    options=(
        Option("form", "sigmoid", "how logits become weights", choices=("sigmoid", "softmax")),
        Option("kernel_size", 3, "side of the first convolution", minimum=1, odd=True),
        Option("per_channel", False, "a weight for each channel at each position, not one for all"),
        Option("layers", 2, "convolutions; of one there is no hidden layer", minimum=1, maximum=2),
        Option("reduction", 16, "hidden channels are C / reduction", minimum=1),
        least_option(2),
        Option("bias", True, "whether the convolutions have biases; before a softmax there are none"),
    ),
)


@register(CARD)
class SoftAttention(nn.Module):
    """Weigh the positions of (N, C, H, W) features, for all channels or for each on its own."""

    def __init__(
        self,
        channels: int,
        *,
        form: str = "sigmoid",
        per_channel: bool = False,
        kernel_size: int = 3,
        layers: int = 2,
        reduction: int = 16,
        least: int = 2,
        bias: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.form, self.layers, made = form, layers, channels if per_channel else 1
        biased, around = bias and form == "sigmoid", kernel_size // 2
        self.look: nn.Module = nn.Identity()
        if layers == 1:
            self.weigh = nn.Conv2d(channels, made, kernel_size, padding=around, bias=biased)
        else:
            hidden = hidden_width(channels, reduction, least)
            self.look = nn.Conv2d(channels, hidden, kernel_size, padding=around, bias=biased)
            self.weigh = nn.Conv2d(hidden, made, 1, bias=biased)
            start_hidden(init, self.look)
        function, rest = ("sigmoid", 0.5) if form == "sigmoid" else ("", 1.0)
        self.gate = Multiply(init, self, "weigh", function=function, rest=rest)

    def forward(self, x: Tensor) -> Tensor:
        """Return weighed features of the same shape."""
        z = self.weigh(self.look(x) if self.layers == 1 else self.look(x).relu())
        return self.gate(x, z if self.form == "sigmoid" else _flat_is_one(z))


def _flat_is_one(z: Tensor) -> Tensor:
    """Return HW · softmax over the positions of (N, 1, H, W), which is exactly 1 where all logits are the same."""
    z = z.to(torch.promote_types(z.dtype, torch.float32))  # half precision cannot count the positions
    powers = (z - z.detach().amax((2, 3), keepdim=True)).exp()
    return powers * (z.shape[2] * z.shape[3]) / powers.sum((2, 3), keepdim=True)
