"""Efficient local attention."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import group_norm, sigmoid
from .case import Array, Case, Weights


def local(means: Array, kernel: Array) -> Array:
    """Convolve (N, C, L) means along L; kernel (C, channels mixed, k)."""
    size, mixed, length = kernel.shape[2], kernel.shape[1], means.shape[2]
    made = np.zeros_like(means)
    for channel, place, tap, other in np.ndindex(means.shape[1], length, size, mixed):
        seen = place + tap - size // 2
        if 0 <= seen < length:
            made[:, channel, place] += kernel[channel, other, tap] * means[:, channel // mixed * mixed + other, seen]
    return made


def ela(x: Array, w: Weights, factor: float, groups: int) -> Array:
    def gate(means: Array, side: str) -> Array:
        kernel = w[f"conv_{side}.weight"]
        z = local(means, kernel.reshape(*kernel.shape[:2], -1))
        return factor * sigmoid(group_norm(z, w, f"norm_{side}", groups))

    return x * gate(x.mean(3), "h")[:, :, :, None] * gate(x.mean(2), "w")[:, :, None]


CASES = [
    Case("ela", partial(ela, groups=8), channels=(8,)),
    Case("ela", partial(ela, groups=13), channels=(13, 26)),
    Case("ela", partial(ela, groups=16), channels=(32,), size=(9, 4)),
    Case("ela", partial(ela, groups=4), {"kernel_size": 5, "groups": 4, "mixed": 8}, (8, 16)),
]
