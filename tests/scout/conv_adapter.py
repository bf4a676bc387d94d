"""A convolutional adapter as a block: a bottleneck with a depthwise convolution, added to its input."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn


class ConvAdapter(nn.Module):
    """Add a bottleneck with a depthwise 3 × 3 convolution (Chen et al., Conv-Adapter, 2024)."""

    def __init__(self, channels: int, width: int = 4) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, width, 1)
        self.depthwise = nn.Conv2d(width, width, 3, padding=1, groups=width)
        self.activation = nn.ReLU()
        self.widen = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, H, W) to the same shape."""
        return cast(Tensor, x + self.widen(self.activation(self.depthwise(self.narrow(x)))))
