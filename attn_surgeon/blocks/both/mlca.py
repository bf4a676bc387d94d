"""Mixed local channel attention (Wan et al., 2023, "Mixed Local Channel Attention for Object Detection").

l = means of p × p patches,     g = mean of l over patches
a = w · σ(conv1d_k(l)) + (1 − w) · σ(conv1d_k(g))           over neighbouring channels, no bias
y = x · spread(a)                                           p × p gates averaged onto the map

The patches, and what a position takes from the gates, are those of adaptive average pooling: cell i of n out of a line
of length s goes from ⌊i · s / n⌋ to ⌈(i + 1) · s / n⌉. They are made as matrices, so that exported networks are right
at any size. As in the authors' code, the local convolution runs over all patches' channels in one row, so that the
first and last channels of neighbouring patches see each other. That code also mixes the global gates of the images of
a batch, which is not meant, and not done here.

σ(z) is computed as 1/2 + tanh(z/2) / 2 and only the tanh is spread: averages of zeros are exact, those of ones are not.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate import Multiply
from attn_surgeon.blocks.base.pooling import pooling_matrix
from attn_surgeon.blocks.base.registry import register
from attn_surgeon.blocks.channel.eca import adaptive_kernel

CARD = Card(
    name="mlca",
    title="Mixed Local Channel Attention",
    paper="Wan et al. 2023, Mixed Local Channel Attention for Object Detection",
    idea="channel attention of local patches and of the whole map, mixed; a handful of parameters",
    formula="y = x · spread(w · σ(conv1d_k(l)) + (1 − w) · σ(conv1d_k(mean(l)))), l = means of patches",
    identity="2σ(z), both conv1d = 0",
    parameters="2k, k = 2⌊t/2⌋ + 1, t = ⌊log2(2C)/2⌋",
    macs="10C·HW + 25C·(H + W) + 26kC",
    nodes=24,
    usual_sites="end of each residual branch; necks of detectors",
    kind="both",
    reach="map",
    options=(
        Option("patches", 5, "patches along each side of the map", minimum=1),
        Option("weight", 0.5, "share of the local gate", minimum=0.01, maximum=0.99),
        Option("kernel_size", None, "channels each gate looks at; from C where not given", minimum=1, odd=True),
        Option("gamma", 2.0, "γ in the kernel's size, as in eca", minimum=0.1),
        Option("b", 1.0, "b in the kernel's size"),
    ),
)


@register(CARD)
class MixedLocalChannelAttention(nn.Module):
    """Weigh the channels of patches of (N, C, H, W) features by 1-D convolutions over their means."""

    def __init__(
        self,
        channels: int,
        *,
        patches: int = 5,
        weight: float = 0.5,
        kernel_size: int | None = None,
        gamma: float = 2.0,
        b: float = 1.0,
        init: str = "identity",
    ) -> None:
        super().__init__()
        size = kernel_size or adaptive_kernel(channels, gamma, b)
        self.channels, self.patches, self.weight = channels, patches, weight
        self.local, self.whole = (nn.Conv1d(1, 1, size, padding=size // 2, bias=False) for _ in range(2))
        self.rest = 0.5 if init == "paper" else 1.0
        self.gate = Multiply(init, self, "local", "whole", function="", rest=self.rest)

    def forward(self, x: Tensor) -> Tensor:
        """Return gated features of the same shape."""
        height, width = x.shape[2:]
        means = pooling_matrix(self.patches, height, x) @ x @ pooling_matrix(self.patches, width, x).T
        gates = self._gates(means.flatten(2)).reshape(means.shape)
        spread = pooling_matrix(height, self.patches, x) @ gates @ pooling_matrix(width, self.patches, x).T
        return self.gate(x, self.rest * (1 + spread))

    def _gates(self, means: Tensor) -> Tensor:
        """Compute tanh(z / 2) for each patch, (N, C, patches)."""
        whole = self.whole(means.mean(2).unsqueeze(1)).transpose(1, 2)
        row = means.transpose(1, 2).reshape(-1, 1, self.channels * self.patches**2)
        local = self.local(row).reshape(-1, self.patches**2, self.channels).transpose(1, 2)
        gates: Tensor = self.weight * torch.tanh(local / 2) + (1 - self.weight) * torch.tanh(whole / 2)
        return gates
