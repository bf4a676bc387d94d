"""Coordinate attention."""

from __future__ import annotations

import numpy as np

from .arrays import batch_norm, dense, sigmoid
from .case import Array, Case, Count, Weights
from .networks import MOBILENETV2_DEPTHWISE


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
# 3Cm + 2m + 2C, m = C / 32, at least 8: 2512 + 2 · 3760 + 3 · 5008 + 4 · 14616 + 3 · 32292 + 3 · 88380
COUNTS = [Count("coord", 445_536, "Hou et al. 2021: from 3.50 M to 3.95 M in MobileNetV2", MOBILENETV2_DEPTHWISE)]
