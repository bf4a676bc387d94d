"""Gather-excite (Hu et al., 2018, "Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks").

without parameters:  g = mean of x over 2e − 1 rows and columns around every e-th position, the whole map where e = 0
with parameters:     g = bn(dw(... relu(bn(dw(x))))), log2(e) depthwise 3×3 convolutions of stride 2
y = x · σ(spread(g))          the gate of row i and column j is that of ⌊i / e⌋ and ⌊j / e⌋

Means are over what lies inside the map. To spread so is to interpolate by the nearest neighbour where e divides height
and width. The published operator with parameters and e = 0 is one kernel as large as the map, which a block for every
size cannot have.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Blend, Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.norms import PooledNorm
from attn_surgeon.blocks.base.options import least_option
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

CARD = Card(
    name="ge",
    title="Gather-Excite",
    paper="Hu et al. 2018, Gather-Excite: Exploiting Feature Context in Convolutional Neural Networks",
    idea="gate each channel by context gathered from a large neighbourhood",
    formula="y = x · σ(spread(gather(x))), gather: strided depthwise convolutions, or means without parameters",
    identity="2σ(z), the last norm's weight and bias = 0; without parameters x + γ(f − x), γ = 0 for each channel",
    parameters="33C",
    macs="9C·(⌊(H + 1)/2⌋·⌊(W + 1)/2⌋ + ⌊(H + 3)/4⌋·⌊(W + 3)/4⌋ + ⌊(H + 7)/8⌋·⌊(W + 7)/8⌋)",
    nodes=10,
    usual_sites="end of each residual branch, before the add",
    kind="channel",
    reach="map",
    options=(
        Option("parameters", True, "gather by convolutions; without, by means"),
        Option("extent", 8, "a gate for every so many positions, a power of two; 0: one for the map", minimum=0),
        Option("mlp", False, "two 1×1 convolutions after the gathering, as GE-θ⁺ has them"),
        Option("reduction", 16, "hidden channels of the MLP are C / reduction", minimum=1),
        least_option(2),
    ),
)


@register(CARD)
class GatherExcite(nn.Module):
    """Weigh each channel of (N, C, H, W) features by what is gathered of it around each position.

    Raises ValueError for an extent that no convolutions of stride 2 have.
    """

    def __init__(
        self,
        channels: int,
        *,
        parameters: bool = True,
        extent: int = 8,
        mlp: bool = False,
        reduction: int = 16,
        least: int = 2,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.extent = extent
        self.gather = _convolutions(channels, extent, init) if parameters else None
        self.mlp = _mlp(channels, hidden_width(channels, reduction, least), init) if mlp else nn.Identity()
        closing = ["mlp.2"] if mlp else [] if self.gather is None else [f"gather.{len(self.gather) - 1}"]
        if closing:
            self.gate = Multiply(init, self, *closing)
        self.outer = None if closing else Blend(channels, init)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        z = self.mlp(self._means(x) if self.gather is None else self.gather(x))
        z = _spread(z, x, self.extent) if self.extent else z
        return self.gate(x, z) if self.outer is None else self.outer(x, x * torch.sigmoid(z).to(x.dtype))

    def _means(self, x: Tensor) -> Tensor:
        if self.extent == 0:
            return x.mean((2, 3), keepdim=True)
        size, around = 2 * self.extent - 1, self.extent - 1
        return F.avg_pool2d(x, size, self.extent, around, count_include_pad=False)


def _spread(gathered: Tensor, x: Tensor, extent: int) -> Tensor:
    rows, columns = (torch.arange(size, device=x.device) // extent for size in x.shape[2:])
    return gathered.index_select(2, rows).index_select(3, columns)


def _mlp(channels: int, hidden: int, init: str) -> nn.Sequential:
    first = nn.Conv2d(channels, hidden, 1)
    start_hidden(init, first)
    return nn.Sequential(first, nn.ReLU(), nn.Conv2d(hidden, channels, 1))


def _convolutions(channels: int, extent: int, init: str) -> nn.Sequential:
    if extent < 2 or extent & (extent - 1):
        raise ValueError(f"it gathers by convolutions of stride 2, which have no extent={extent}; by means they have")
    layers: list[nn.Module] = []
    for step in range(extent.bit_length() - 1):
        conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
        if step == 0:
            start_hidden(init, conv)
        elif init != "paper":
            _keep_on(conv)
        layers += [conv, PooledNorm(channels), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


@torch.no_grad()
def _keep_on(conv: nn.Conv2d) -> None:
    """Set positive weights of at most 1 in sum: what the ReLU before left on stays on after the next."""
    conv.weight.abs_()
    conv.weight /= conv.weight[0].numel()
