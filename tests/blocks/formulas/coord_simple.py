"""Coordinate attention, simplified."""

from __future__ import annotations

import numpy as np

from .arrays import dense, sigmoid
from .case import Array, Case, Weights


def coord_simple(x: Array, w: Weights, factor: float) -> Array:
    y = np.empty_like(x)
    for row, column in np.ndindex(*x.shape[2:]):
        of_row = factor * sigmoid(dense(x[:, :, row].mean(2), w, "conv_h"))
        of_column = factor * sigmoid(dense(x[:, :, :, column].mean(2), w, "conv_w"))
        y[:, :, row, column] = x[:, :, row, column] * of_row * of_column
    return y


CASES = [Case("coord-simple", coord_simple, channels=(1, 13, 32))]
