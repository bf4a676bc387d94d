"""Bottleneck attention (Park et al., 2018, "BAM: Bottleneck Attention Module").

channel:  Mc = W1 · relu(bn(W0 · mean_hw(x))) + b
spatial:  Ms = W3 · relu(bn(d2(relu(bn(d1(relu(bn(W2 x)))))))) + b      d1, d2: dilated 3×3 convolutions
bam:      y = x + x · σ(Mc + Ms)

The branches are added, as in the paper; the authors' code multiplies them (`combine=mul`). Their norms are where that
code has them; in the paper's formulas one stands at the end of each branch instead. Layers before a norm have no
biases, which it would cancel, so they could not learn. Other implementations have three hidden layers in each branch:
`layers=3`, `convolutions=3`.

The published gate is 1 + σ(z), from 1 to 2 and never 1. The identity form is 2σ(z), from 0 to 2, so it can also take
away.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.initialisation import start_hidden
from attn_surgeon.blocks.base.norms import PooledNorm
from attn_surgeon.blocks.base.options import least_option
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.base.widths import hidden_width

_PAPER = "Park et al. 2018, BAM: Bottleneck Attention Module"
_REDUCTION = Option("reduction", 16, "hidden channels are C / reduction", minimum=1)
_LEAST = least_option(
    4
)  # one pair of units is weak where it begins with weights near 0, through three layers all the more
_DILATION = Option("dilation", 4, "steps between the taps of the 3×3 convolutions", minimum=1)
_CONVOLUTIONS = Option("convolutions", 2, "dilated convolutions", minimum=2)


class ChannelBranch(nn.Module):
    """Compute a logit of each channel, (N, C, 1, 1), from the means."""

    def __init__(self, channels: int, hidden: int, layers: int, init: str) -> None:
        super().__init__()
        self.fc1, self.bn = nn.Conv2d(channels, hidden, 1, bias=False), PooledNorm(hidden)
        self.more = nn.Sequential()
        for _ in range(layers - 1):
            self.more.extend([nn.Conv2d(hidden, hidden, 1, bias=False), PooledNorm(hidden), nn.ReLU()])
        self.fc2 = nn.Conv2d(hidden, channels, 1)
        start_hidden(init, self.fc1)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the sigmoid takes."""
        z: Tensor = self.fc2(self.more(F.relu(self.bn(self.fc1(x.mean((2, 3), keepdim=True))))))
        return z


class SpatialBranch(nn.Module):
    """Compute a logit of each position, (N, 1, H, W), from a wide surrounding."""

    def __init__(self, channels: int, hidden: int, dilation: int, layers: int, init: str) -> None:
        super().__init__()
        self.reduce, self.bn0 = nn.Conv2d(channels, hidden, 1, bias=False), nn.BatchNorm2d(hidden)
        self.conv1, self.bn1 = _dilated(hidden, dilation), nn.BatchNorm2d(hidden)
        self.conv2, self.bn2 = _dilated(hidden, dilation), nn.BatchNorm2d(hidden)
        self.more = nn.Sequential()
        for _ in range(layers - 2):
            self.more.extend([_dilated(hidden, dilation), nn.BatchNorm2d(hidden), nn.ReLU()])
        self.last = nn.Conv2d(hidden, 1, 1)
        for layer in (self.reduce, self.conv1, self.conv2, *self.more[::3]):
            start_hidden(init, layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return what the sigmoid takes."""
        hidden = F.relu(self.bn0(self.reduce(x)))
        hidden = F.relu(self.bn1(self.conv1(hidden)))
        z: Tensor = self.last(self.more(F.relu(self.bn2(self.conv2(hidden)))))
        return z


def amplify(x: Tensor, z: Tensor, gate: Multiply) -> Tensor:
    """Multiply features by the published 1 + σ(z), or by 2σ(z) in the identity form."""
    return gate(x, z) if gate.closable else x + gate(x, z)


def _dilated(channels: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(channels, channels, 3, padding=dilation, dilation=dilation, bias=False)


@register(
    Card(
        name="bam-spatial",
        title="BAM's spatial half",
        paper=_PAPER,
        idea="gate positions by a bottleneck with two dilated 3×3 convolutions",
        formula="y = x + x · σ(W3 relu(bn(d2(relu(bn(d1(relu(bn(W2 x)))))))) + b), d: dilated 3×3 convolutions",
        identity="2σ(z) instead of 1 + σ(z), W3 = b = 0",
        parameters="Cm + 18m² + 7m + 1, m = max(4, C/r)",
        macs="(Cm + 18m² + m)·HW",
        nodes=10,
        usual_sites="after stages, before the next one shrinks the map",
        kind="spatial",
        reach="map",
        options=(_REDUCTION, _LEAST, _DILATION, _CONVOLUTIONS),
    )
)
class BottleneckSpatialAttention(nn.Module):
    """Weigh the positions of (N, C, H, W) features by dilated convolutions."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        least: int = 4,
        dilation: int = 4,
        convolutions: int = 2,
        init: str = "identity",
    ) -> None:
        super().__init__()
        self.spatial = SpatialBranch(channels, hidden_width(channels, reduction, least), dilation, convolutions, init)
        self.gate = Multiply(init, self, "spatial.last")

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        return amplify(x, self.spatial(x), self.gate)


@register(
    Card(
        name="bam",
        title="Bottleneck Attention Module",
        paper=_PAPER,
        idea="weight channels and positions at once, by the sum of a channel and a spatial branch",
        formula="y = x + x · σ(W1 relu(bn(W0 mean(x))) + b + Ms), Ms: what the sigmoid of bam-spatial takes",
        identity="2σ(z) instead of 1 + σ(z), the last layer of both branches = 0",
        parameters="3Cm + 18m² + 9m + C + 1, m = max(4, C/r)",
        macs="2Cm + (Cm + 18m² + m)·HW",
        nodes=15,
        usual_sites="after stages, before the next one shrinks the map",
        kind="both",
        reach="map",
        options=(
            _REDUCTION,
            _LEAST,
            Option("layers", 1, "hidden layers of the channel branch", minimum=1),
            _DILATION,
            _CONVOLUTIONS,
            Option("combine", "add", "how the two branches become one", choices=("add", "mul")),
        ),
    )
)
class BottleneckAttention(nn.Module):
    """Weigh the channels and the positions of (N, C, H, W) features at once."""

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        least: int = 4,
        layers: int = 1,
        dilation: int = 4,
        convolutions: int = 2,
        combine: str = "add",
        init: str = "identity",
    ) -> None:
        super().__init__()
        hidden, self.combine = hidden_width(channels, reduction, least), combine
        self.channel = ChannelBranch(channels, hidden, layers, init)
        self.spatial = SpatialBranch(channels, hidden, dilation, convolutions, init)
        # of two factors that are zero none would learn
        closing = ["channel.fc2", "spatial.last"] if combine == "add" else ["channel.fc2"]
        self.gate = Multiply(init, self, *closing)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        channel, spatial = self.channel(x), self.spatial(x)
        return amplify(x, channel + spatial if self.combine == "add" else channel * spatial, self.gate)
