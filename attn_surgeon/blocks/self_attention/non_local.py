"""The non-local block (Wang et al., 2018, "Non-local Neural Networks").

θ, φ, g = W_θ x, W_φ x, W_g x, of C / r channels each
o_i = sum_j f_ij g_j,   f_ij by mode:
    embedded        softmax over j of θ_i · φ_j
    gaussian        softmax over j of x_i · x_j
    dot             θ_i · φ_j / L                              L: the number of j
    concatenation   relu(w_θ · θ_i + w_φ · φ_j) / L
y = x + bn(W o)                                              or x + W o + b without the norm

Subsampled, φ and g (and x_j) are the maxima of 2×2 positions. The dot product is computed as θ (φᵀ g) / L, which
holds no pairs; concatenation holds all of them. Biases that a softmax or a norm would cancel are left out.

A printed form with a batch norm and a ReLU after g (`value_norm=true`) multiplies f, L × L, by g, C / r × L, without
transposing it. That runs for L = C / r alone, and computes o_ip = Σ_j f_ij g_jp there: the weights of positions are
applied to channels. The form here is that with g transposed, which runs at every size.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Add
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width
from attn_surgeon.blocks.self_attention.attend import attend, positions, tokens

MODES = ("embedded", "gaussian", "dot", "concatenation")
CARD = Card(
    name="nonlocal",
    title="Non-Local Block",
    paper="Wang et al. 2018, Non-local Neural Networks",
    idea="add to each position a sum over all positions, weighted by similarity",
    formula="y = x + bn(W softmax((W_θ x)ᵀ W_φ x) W_g x)",
    identity="as published: the norm's weight and bias = 0",
    parameters="4Cm + m + 2C, m = max(2, C/r)",
    macs="4Cm·HW + 2m·(HW)²",
    nodes=15,
    usual_sites="late stages, after a residual block",
    kind="self-attention",
    reach="positions",
    options=(
        Option("mode", "embedded", "how alike two positions are; concatenation holds all pairs", choices=MODES),
        Option("reduction", 2, "inner channels are C / reduction, at least 2", minimum=1),
        Option("subsample", False, "look at the maxima of 2×2 positions (of two in a sequence), not at each"),
        Option("scaled", False, "divide what goes into the softmax by the root of its width"),
        Option(
            "scale",
            "width",
            "`scaled` divides by the root of the embedding's width, or of all channels",
            choices=("width", "channels"),
        ),
        Option(
            "ceil_mode", True, "maxima of what is left of 2×2 at an odd end; false drops it, as PyTorch's pooling does"
        ),
        Option(
            "value_norm",
            False,
            "a batch norm and a ReLU after g, in place of its bias; a print of it does not transpose g, runs only where"
            " H·W = C / reduction, and applies the weights of positions to channels",
        ),
        Option("norm", True, "a batch norm after the last projection; without, the projection starts at 0"),
    ),
)


@register(CARD)
class NonLocal(nn.Module):
    """Add to each position of (N, C, H, W) features a weighted sum of all."""

    def __init__(
        self,
        channels: int,
        *,
        mode: str = "embedded",
        reduction: int = 2,
        subsample: bool = False,
        scaled: bool = False,
        scale: str = "width",
        ceil_mode: bool = True,
        value_norm: bool = False,
        norm: bool = True,
        init: str = "identity",
    ) -> None:
        super().__init__()
        width, shares = hidden_width(channels, reduction), mode in ("embedded", "gaussian")
        self.mode, self.subsample, self.ceil_mode = mode, subsample, ceil_mode
        under = channels if mode == "gaussian" or scale == "channels" else width
        self.scale = under**-0.5 if scaled else 1.0
        embedded = mode != "gaussian"
        self.theta = nn.Conv2d(channels, width, 1) if embedded else nn.Identity()
        self.phi = nn.Conv2d(channels, width, 1, bias=not shares) if embedded else nn.Identity()
        self.g = nn.Conv2d(channels, width, 1, bias=not (shares or value_norm))
        self.g_norm = nn.Sequential(nn.BatchNorm2d(width), nn.ReLU()) if value_norm else nn.Identity()
        self.pair = nn.Linear(2 * width, 1, bias=False) if mode == "concatenation" else None
        self.project = nn.Conv2d(width, channels, 1, bias=not norm)
        self.bn = nn.BatchNorm2d(channels) if norm else nn.Identity()
        last = self.bn if norm else self.project
        for parameter in last.parameters():  # so too as published
            nn.init.zeros_(parameter)
        self.gate = Add(init, self, "bn" if norm else "project")

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        query, key, value = tokens(self.theta(x)), self._seen(self.phi(x)), self._seen(self.g_norm(self.g(x)))
        return self.gate(x, self.bn(self.project(positions(self._sum(query, key, value), x))))

    def _seen(self, x: Tensor) -> Tensor:
        if not self.subsample:
            return tokens(x)
        side = (2, 2 if self.ceil_mode or x.shape[3] > 1 else 1)  # a sequence is a map of one column
        return tokens(F.max_pool2d(x, side, ceil_mode=self.ceil_mode))

    def _sum(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        if self.mode == "dot":
            return query @ ((key / key.shape[2]).transpose(2, 3) @ value)
        if self.pair is None:
            return attend(query, key, value, self.scale)
        of_query, of_key = self.pair.weight.chunk(2, 1)
        likeness = F.relu(F.linear(query, of_query) + F.linear(key, of_key).transpose(2, 3))
        return likeness / key.shape[2] @ value
