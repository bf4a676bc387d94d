"""Hard attention: positions or channels are kept or dropped (Xu et al., 2015, "Show, Attend and Tell").

z = W2 relu(conv3(gn(x))) + b2                     a logit for each position, or, for channels:
z = W2 relu(W1 gn(mean_hw(x)) + b1) + b2
y = x · g,   g = h + s − s̄                         h is 0 or 1, s its relaxation, s̄ the same without a gradient

training, bernoulli:  h = z + l > 0,  s = σ((z + l) / t)                         l: logistic noise
training, gumbel:     h = top(z + e), s = ⌈keep · n⌉ · softmax((z + e) / t)      e: Gumbel noise
evaluation:           h = top(z), s as in training without noise

top keeps the ⌈keep · n⌉ largest of n, the first of those alike. The gradient passes h as if it were s (the
straight-through estimator of Bengio et al., 2013); s are the relaxations of Jang et al. and Maddison et al., 2017; the
largest after Gumbel noise are a sample without replacement. gn normalises over all channels and positions, so that
features far from zero do not close the relaxation. b2 starts at log(keep / (1 − keep)): then Bernoulli draws keep about
as many. Where a softmax over positions would cancel it, there is none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.noise import Noise
from attn_surgeon.blocks.base.norms import SafeGroupNorm
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="hard",
    title="Hard Attention",
    paper="Xu et al. 2015, Show, Attend and Tell; Jang et al. 2017, Categorical Reparameterization with Gumbel-Softmax",
    idea="keep some positions or channels and zero the others; sampled in training, the largest logits in evaluation",
    formula="f = x · g, g = 1 for the keep · n largest of z = W2 relu(conv3(gn(x))), else 0; straight-through gradient",
    identity="x + γ(f − x), γ = 0 for each channel",
    parameters="9Cm + 2m + 3C + 1, m = max(2, C/r)",
    macs="(9Cm + m)·HW",
    nodes=31,
    usual_sites="after stages; end of each residual branch, before the add",
    kind="both",
    reach="map",
    options=(
        Option("over", "positions", "what is chosen from", choices=("positions", "channels")),
        Option("draw", "bernoulli", "each on its own, or so many of all", choices=("bernoulli", "gumbel")),
        Option("keep", 0.5, "the share that is kept, to three digits", minimum=0.001, maximum=0.999),
        Option("temperature", 1.0, "how soft the relaxation is", minimum=0.01),
        Option("reduction", 16, "hidden channels are C / reduction, at least 2", minimum=1),
    ),
)


@register(CARD)
class HardAttention(nn.Module):
    """Keep some positions or channels of (N, C, H, W) features and make the others zero.

    Raises ValueError where channels are too few to choose from.
    """

    def __init__(
        self,
        channels: int,
        *,
        over: str = "positions",
        draw: str = "bernoulli",
        keep: float = 0.5,
        temperature: float = 1.0,
        reduction: int = 16,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.pooled, self.draw, self.temperature = over == "channels", draw, temperature
        self.thousandths = round(1000 * keep)
        if self.pooled and 1000 * (channels - 1) < self.thousandths * channels:
            raise ValueError(f"it has {channels} channels, too few to keep a share of {keep:g} and drop the rest")
        self._make_layers(channels, hidden_width(channels, reduction), init)
        self.noise, self.outer = Noise(), Blend(channels, init)

    def _make_layers(self, channels: int, hidden: int, init: str) -> None:
        side, made = (1, channels) if self.pooled else (3, 1)
        self.norm, self.look = SafeGroupNorm(1, channels), nn.Conv2d(channels, hidden, side, padding=side // 2)
        self.choose = nn.Conv2d(hidden, made, 1, bias=self.pooled or self.draw == "bernoulli")
        start_hidden(init, self.look)
        if self.choose.bias is not None:
            nn.init.constant_(self.choose.bias, math.log(self.thousandths / (1000 - self.thousandths)))

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape, with what was kept of them."""
        seen = self.norm(x.mean((2, 3), keepdim=True) if self.pooled else x)
        z = self.choose(self.look(seen).relu())
        gates = self._gates(x, z.flatten(1)).reshape(z.shape)
        return self.outer(x, x * gates.to(x.dtype))

    def _gates(self, x: Tensor, z: Tensor) -> Tensor:
        z = z.to(torch.promote_types(z.dtype, torch.float32))
        if self.training:
            numbers = self.noise(x, self.parameters(), z.shape[1]).to(z.dtype)
            z = z + (numbers.logit() if self.draw == "bernoulli" else -(-numbers.log()).log())
        drawn = self.training and self.draw == "bernoulli"
        chosen = (z > 0).to(z.dtype) if drawn else _largest(z, self.thousandths)
        relaxed = self._relaxed(z / self.temperature)
        return chosen + (relaxed - relaxed.detach())

    def _relaxed(self, z: Tensor) -> Tensor:
        if self.draw == "bernoulli":
            return z.sigmoid()
        return z.softmax(1) * -(-self.thousandths * z.shape[1] // 1000)


def _largest(z: Tensor, thousandths: int) -> Tensor:
    """Mark the largest of each row with 1 and the others with 0, so many thousandths of them, rounded up."""
    first = torch.arange(z.shape[1], device=z.device) * 1000 < thousandths * z.shape[1]
    least = z.sort(dim=1, descending=True).values.where(first, math.inf).amin(1, keepdim=True)
    above, level = z > least, z == least
    room = first.sum() - above.sum(1, keepdim=True)
    return (above | (level & (level.cumsum(1) <= room))).to(z.dtype)
