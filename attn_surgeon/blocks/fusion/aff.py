"""Attentional feature fusion (Dai et al., 2021, "Attentional Feature Fusion").

c(u) = bn(W2 relu(bn(W1 u)))                       a bottleneck of 1×1 convolutions
m(u) = local(u) + global(mean_hw(u))               MS-CAM: one c for positions, one for the whole map
aff:   y = x1 · σ(z) + x2 · (1 − σ(z)),            z = m(x1 + x2)
iaff:  u = x1 · σ(z1) + x2 · (1 − σ(z1)),          z1 = m1(x1 + x2)
       y = x1 · σ(z2) + x2 · (1 − σ(z2)),          z2 = m2(u)

The authors' code doubles what aff computes (`doubled=true`), and uses the global half of m1 in m2 as well
(`shared=true` of iaff); the defaults are the paper's. The convolutions have no biases: the norm after each would
cancel it, so it could not learn. At the identity start 2σ(z) stands for the last σ(z): x1 counts once and x2 not at
all. With x1 = x2 the mean is x1 whatever z is.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend, Mix, mix
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.norms import PooledNorm
from attn_surgeon.blocks.base.options import least_option
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

_PAPER = "Dai et al. 2021, Attentional Feature Fusion"
_SITES = "where a skip or a branch is about to be added or joined; it needs two maps that differ"
_REDUCTION = Option("reduction", 4, "hidden channels are C / reduction", minimum=1)
_LEAST = least_option(2)


class MultiScaleContext(nn.Module):
    """Compute logits of (N, C, H, W) features from each position and, where `whole`, from the whole map."""

    def __init__(self, channels: int, hidden: int, init: str, *, whole: bool = True) -> None:
        super().__init__()
        self.near = _bottleneck(channels, hidden, nn.BatchNorm2d)
        self.whole = _bottleneck(channels, hidden, PooledNorm) if whole else None
        start_hidden(init, self.near.reduce)
        if self.whole is not None:
            start_hidden(init, self.whole.reduce)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of the same shape."""
        z: Tensor = self.near(x)
        return z if self.whole is None else z + self.whole(x.mean((2, 3), keepdim=True))


class _Bottleneck(nn.Sequential):
    reduce: nn.Conv2d
    last: nn.BatchNorm2d


def _bottleneck(channels: int, hidden: int, norm: type[nn.BatchNorm2d]) -> _Bottleneck:
    made = _Bottleneck()
    made.add_module("reduce", nn.Conv2d(channels, hidden, 1, bias=False))
    made.add_module("norm", norm(hidden))
    made.add_module("relu", nn.ReLU())
    made.add_module("expand", nn.Conv2d(hidden, channels, 1, bias=False))
    made.add_module("last", norm(channels))
    return made


@register(
    Card(
        name="aff",
        title="Attentional Feature Fusion",
        paper=_PAPER,
        idea="a weighted mean of two maps, by local and global context of their sum",
        formula="f = x · M + y · (1 − M), M = σ(m(x + y)), m(u) = c1(u) + c2(mean(u)), c = bn(W2 relu(bn(W1 u)))",
        identity="M = 2σ(z), the last norms' weights and biases = 0",
        parameters="4Cm + 4m + 4C, m = max(2, C/r)",
        macs="2Cm·(HW + 1)",
        nodes=17,
        usual_sites=_SITES,
        kind="two inputs",
        selective=True,
        reach="map",
        options=(_REDUCTION, _LEAST, Option("doubled", False, "twice the fusion, as in the authors' code")),
    )
)
class AttentionalFusion(nn.Module):
    """Fuse (N, C, H, W) features with others of the same shape by a mean that is weighed everywhere on its own."""

    def __init__(
        self, channels: int, *, reduction: int = 4, least: int = 2, doubled: bool = False, init: str = "identity"
    ) -> None:
        super().__init__()
        self.context = MultiScaleContext(channels, hidden_width(channels, reduction, least), init)
        self.doubled = doubled
        if doubled:
            self.outer = Blend(channels, init)
        else:
            self.gate = Mix(init, self, "context.near.last", "context.whole.last")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the fusion of both."""
        weight = torch.sigmoid(self.context(x + y))
        return self.outer(x, 2 * mix(x, y, 1 - weight)) if self.doubled else self.gate(x, y, weight)


@register(
    Card(
        name="iaff",
        title="Iterative Attentional Feature Fusion",
        paper=_PAPER,
        idea="as aff, twice: the second weights come from the first fusion",
        formula="f = x · M2 + y · (1 − M2), M2 = σ(m2(x · M1 + y · (1 − M1))), M1 = σ(m1(x + y)), m as in aff",
        identity="M2 = 2σ(z), its last norms' weights and biases = 0; the weights of M1's start at 0.1",
        parameters="8Cm + 8m + 8C, m = max(2, C/r)",
        macs="4Cm·(HW + 1)",
        nodes=29,
        usual_sites=_SITES,
        kind="two inputs",
        selective=True,
        reach="map",
        options=(
            _REDUCTION,
            _LEAST,
            Option("shared", False, "m2 has the global half of m1, as in the authors' code, in place of its own"),
        ),
    )
)
class IterativeFusion(nn.Module):
    """Fuse (N, C, H, W) features with others of the same shape twice, the second time by what the first one made."""

    def __init__(
        self, channels: int, *, reduction: int = 4, least: int = 2, shared: bool = False, init: str = "identity"
    ) -> None:
        super().__init__()
        hidden, self.shared = hidden_width(channels, reduction, least), shared
        self.first = MultiScaleContext(channels, hidden, init)
        self.second = MultiScaleContext(channels, hidden, init, whole=not shared)
        if init == "identity":  # until the statistics are known, large features would close the sigmoid for good
            nn.init.constant_(self.first.near.last.weight, 0.1)
            nn.init.constant_(_whole(self.first).last.weight, 0.1)
        self.gate = Mix(init, self, "second.near.last", f"{'first' if shared else 'second'}.whole.last")

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the fusion of both."""
        fused = mix(x, y, 1 - torch.sigmoid(self.first(x + y)))
        z = self.second(fused)
        if self.shared:
            z = z + _whole(self.first)(fused.mean((2, 3), keepdim=True))
        return self.gate(x, y, torch.sigmoid(z))


def _whole(context: MultiScaleContext) -> _Bottleneck:
    assert context.whole is not None
    return context.whole
