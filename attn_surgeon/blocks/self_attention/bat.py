"""Bilinear attentional transforms (Chi et al., 2020, "Non-Local Neural Networks with Grouped Bilinear Attentional
Transforms").

u = relu(bn(W_1 x)),  o = relu(bn(W_o u))          m channels, and one for each of g groups of them
p, q = σ(W_p r + b_p), σ(W_q c + b_q)              r, c: the largest o in each of s bands of rows, of columns
P, Q = p / Σ_j p_ij,  q / Σ_i q_ij                 an s × s matrix each, for each group
v_(iᵃ)(lᵇ) = Σ_jk P_ij u_(jᵃ)(kᵇ) Q_kl             rows and columns of bands are mixed; a and b are places in a band
y = x + relu(bn(W_3 relu(bn(W_2 v))))

As in the authors' code, without its dropout. A map whose sides are no multiples of s is filled up with zeros, which
take part in the mixing, and cropped.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import divisor, hidden_width
from attn_surgeon.blocks.self_attention.windows import count_windows

CARD = Card(
    name="bat",
    title="Bilinear Attentional Transform",
    paper="Chi et al. 2020, Non-Local Neural Networks with Grouped Bilinear Attentional Transforms",
    idea="mix bands of rows and of columns by two small matrices computed from the map",
    formula="f = x + relu(bn(W_3 relu(bn(W_2 (P u Q))))), u = relu(bn(W_1 x)), P and Q from u by bands",
    identity="x + γ(f − x), γ = 0 for each channel",
    parameters="2Cm + m² + mg + 4m + 2g + 3C + 2(gs + 1)gs², m = max(2, C/r), g = 2, s = 7",
    macs="(2Cm + m² + mg)·HW + 2msP + 2g²s³, P = s²·⌊(H + s - 1)/s⌋·⌊(W + s - 1)/s⌋, m = max(2, C/r), g = 2, s = 7",
    nodes=35,
    usual_sites="in the later stages, after residual blocks",
    kind="self-attention",
    reach="map",
    options=(
        Option("bands", 7, "bands of rows, and of columns", minimum=2),
        Option("groups", None, "of hidden channels, with matrices of their own; 2 where that divides them", minimum=1),
        Option("reduction", 4, "hidden channels are C / reduction, at least 2", minimum=1),
    ),
)


@register(CARD)
class BilinearTransform(nn.Module):
    """Mix bands of rows and of columns of (N, C, H, W) features.

    Raises ValueError where the groups do not divide the hidden channels.
    """

    def __init__(
        self,
        channels: int,
        *,
        bands: int = 7,
        groups: int | None = None,
        reduction: int = 4,
        init: str = "identity",
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction)
        self.bands, self.groups = bands, divisor(hidden, groups, 2, "groups")
        self.reduce, self.norm = nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        self.look, self.norm_o = nn.Conv2d(hidden, self.groups, 1, bias=False), nn.BatchNorm2d(self.groups)
        sides = self.groups * bands
        self.rows, self.columns = nn.Linear(sides, sides * bands), nn.Linear(sides, sides * bands)
        self.mix, self.norm_m = nn.Conv2d(hidden, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        self.expand, self.last = nn.Conv2d(hidden, channels, 1, bias=False), nn.BatchNorm2d(channels)
        for layer in (self.reduce, self.look, self.mix, self.expand):
            start_hidden(init, layer)
        self.outer = Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return features of the same shape."""
        return self.outer(x, x + self._made(x))

    def _made(self, x: Tensor) -> Tensor:
        moved = self._move(F.relu(self.norm(self.reduce(x))))
        return F.relu(self.last(self.expand(F.relu(self.norm_m(self.mix(moved))))))

    def _move(self, u: Tensor) -> Tensor:
        seen, bands = self._cut(F.relu(self.norm_o(self.look(u)))), self._cut(u)
        left = self._matrices(self.rows, seen.amax((3, 4, 5))).softmax(3).to(u.dtype)
        right = self._matrices(self.columns, seen.amax((2, 3, 5))).softmax(2).to(u.dtype)
        n, hidden, _, high, _, wide = bands.shape
        grouped = (n, self.groups, hidden // self.groups)
        above = left.unsqueeze(2) @ bands.reshape(*grouped, self.bands, high * self.bands * wide)
        beside = above.reshape(*grouped, self.bands * high, self.bands, wide)
        moved = right.transpose(2, 3)[:, :, None, None] @ beside
        whole: Tensor = moved.reshape(n, hidden, self.bands * high, self.bands * wide)
        return whole.narrow(2, 0, u.shape[2]).narrow(3, 0, u.shape[3])

    def _cut(self, x: Tensor) -> Tensor:
        """Return (N, C, H, W) as (N, C, bands, places, bands, places), with zeros at the end."""
        high, wide = (count_windows(length, self.bands) for length in x.shape[2:])
        filled = F.pad(x, (0, wide * self.bands - x.shape[3], 0, high * self.bands - x.shape[2]))
        return filled.reshape(*x.shape[:2], self.bands, high, self.bands, wide)

    def _matrices(self, layer: nn.Module, bands: Tensor) -> Tensor:
        """Return (N, groups, bands, bands) of log σ, whose softmax is σ over its sum: it divides by no zero."""
        logits = layer(bands.flatten(1)).reshape(-1, self.groups, self.bands, self.bands)
        return F.logsigmoid(logits.to(torch.promote_types(logits.dtype, torch.float32)))
