"""Triplet attention."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import batch_norm, conv, sigmoid
from .case import Array, Case, Count, Weights
from .networks import RESNET50_BRANCHES


def gated(x: Array, w: Weights, factor: float, name: str, order: tuple[int, ...]) -> Array:
    """Turn the axes, gate the last two by the second, and turn them back."""
    turned = x.transpose(order)
    pooled = np.stack((turned.max(1), turned.mean(1)), 1)
    y = turned * factor * sigmoid(batch_norm(conv(pooled, w, f"{name}.conv"), w, f"{name}.bn"))
    return y.transpose(np.argsort(order))


def triplet(x: Array, w: Weights, factor: float, spatial: bool = True) -> Array:
    branches = [gated(x, w, factor, "cw", (0, 2, 1, 3)), gated(x, w, factor, "hc", (0, 3, 2, 1))]
    if spatial:
        branches.append(gated(x, w, factor, "hw", (0, 1, 2, 3)))
    return sum(branches, np.zeros(1)) / len(branches)


CASES = [
    Case("triplet", triplet, channels=(1, 8, 13)),
    Case("triplet", triplet, {"kernel_size": 3}),
    Case("triplet", partial(triplet, spatial=False), {"spatial": False}),
]
COUNTS = [Count("triplet", 4800, "Misra et al. 2021: 4.8 K in ResNet-50", RESNET50_BRANCHES)]
