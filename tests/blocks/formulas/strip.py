"""Strip pooling."""

from __future__ import annotations

import numpy as np

from .arrays import batch_norm, dense, relu, sigmoid
from .case import Array, Case, Weights


def strips(means: Array, w: Weights, conv: str, norm: str) -> Array:
    """Convolve and normalise (N, C, L) means along L."""
    kernel = w[f"{conv}.weight"]
    kernel = kernel.reshape(*kernel.shape[:2], -1)
    made = np.zeros((len(means), len(kernel), means.shape[2]))
    for place, tap in np.ndindex(means.shape[2], kernel.shape[2]):
        seen = place + tap - kernel.shape[2] // 2
        if 0 <= seen < means.shape[2]:
            made[:, :, place] += means[:, :, seen] @ kernel[:, :, tap].T
    return batch_norm(made, w, norm)


def strip(x: Array, w: Weights, factor: float) -> Array:
    rows, columns = strips(x.mean(3), w, "conv_h", "bn_h"), strips(x.mean(2), w, "conv_w", "bn_w")
    y = np.empty_like(x)
    for row, column in np.ndindex(*x.shape[2:]):
        z = dense(relu(rows[:, :, row] + columns[:, :, column]), w, "last")
        y[:, :, row, column] = x[:, :, row, column] * factor * sigmoid(z)
    return y


CASES = [Case("strip", strip, channels=(1, 2, 13, 32)), Case("strip", strip, {"kernel_size": 5}, size=(3, 9))]
