"""Normalisation of features that may be few."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PooledNorm(nn.BatchNorm2d):
    """Normalise what is left of (N, C, H, W) features after pooling.

    A batch of one image with one position has no spread to normalise by, which torch refuses in training; the running
    statistics stand in for it there.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised features of the same shape."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class MapNorm(nn.GroupNorm):
    """Normalise each image of (N, C, H, W) features over all its channels and positions, with a scale for each channel.

    A lone channel at a lone position becomes 0, where torch's own layer raises.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(1, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised features of the same shape."""
        return torch.group_norm(x, 1, self.weight, self.bias, self.eps)
