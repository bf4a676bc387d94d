"""Norms that also run on single values, and variances in sufficient precision."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PooledNorm(nn.BatchNorm2d):
    """Batch norm of pooled features (N, C, H, W).

    A batch of one image with one position has no variance, and torch raises in training; the running statistics are
    used instead.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised features of the same shape."""
        if self.training and x.shape[0] * x.shape[2] * x.shape[3] == 1:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)


class SafeGroupNorm(nn.GroupNorm):
    """Group norm in the precision of its input.

    A group of a single value becomes its bias, where torch's own layer raises for a batch of one.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return normalised features of the same shape."""
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return torch.group_norm(x, self.num_groups, weight, bias, self.eps)


def at_least_float(x: Tensor) -> Tensor:
    """Return features in at least single precision; in half precision, their squares may overflow."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def spatial_variance(squares: Tensor, unbiased: bool) -> Tensor:
    """Return the mean of squared deviations (N, C, H, W) over positions, divided by H·W − 1 if unbiased."""
    if not unbiased:
        return squares.mean((2, 3), keepdim=True)
    count = torch.ones_like(squares[:1, :1]).sum(
        (2, 3), keepdim=True
    )  # a tensor, because exported sizes may be dynamic
    return squares.sum((2, 3), keepdim=True) / (count - 1).clamp(min=1)
