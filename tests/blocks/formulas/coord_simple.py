"""Coordinate attention, simplified."""

from __future__ import annotations

import numpy as np

from .arrays import dense, sigmoid
from .case import Array, Case, Weights


def coord_simple(x: Array, w: Weights, factor: float) -> Array:
    def logits(mean: Array, name: str) -> Array:
        a = dense(mean, w, "squeeze")
        return dense(a * sigmoid(a), w, name)

    y = np.empty_like(x)
    for row, column in np.ndindex(*x.shape[2:]):
        z = logits(x[:, :, row].mean(2), "conv_h") + logits(x[:, :, :, column].mean(2), "conv_w")
        y[:, :, row, column] = x[:, :, row, column] * factor * sigmoid(z)
    return y


CASES = [
    Case("coord-simple", coord_simple, channels=(1, 13, 67)),
    Case("coord-simple", coord_simple, {"reduction": 2}, (32,)),
    Case("coord-simple", coord_simple, {"least": 3}, (1, 13)),
]
