"""Coordinate attention."""

from __future__ import annotations

import numpy as np

from .arrays import batch_norm, dense, sigmoid
from .case import Array, Case, Weights


def coord(x: Array, w: Weights, factor: float) -> Array:
    def gate(mean: Array, name: str) -> Array:
        a = batch_norm(dense(mean, w, "squeeze"), w, "bn")
        return factor * sigmoid(dense(a * np.clip(a + 3, 0, 6) / 6, w, name))[:, :, None]

    y = np.empty_like(x)
    for row in range(x.shape[2]):
        y[:, :, row] = x[:, :, row] * gate(x[:, :, row].mean(2), "conv_h")
    for column in range(x.shape[3]):
        y[:, :, :, column] *= gate(x[:, :, :, column].mean(2), "conv_w")
    return y


CASES = [Case("coord", coord, channels=(13, 32, 67)), Case("coord", coord, {"reduction": 2}, (32,))]
