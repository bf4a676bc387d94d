"""CBAM and its halves."""

from __future__ import annotations

import numpy as np

from .arrays import batch_norm, conv, dense, relu, sigmoid
from .case import Array, Case, Count, Weights
from .networks import RESNET50_BRANCHES


def channel(x: Array, w: Weights, factor: float, prefix: str = "") -> Array:
    z = sum(
        (
            dense(relu(dense(pooled, w, f"{prefix}mlp.0")), w, f"{prefix}mlp.2")
            for pooled in (x.mean((2, 3)), x.max((2, 3)))
        ),
        np.zeros(1),
    )
    return x * (factor * sigmoid(z))[:, :, None, None]


def spatial(x: Array, w: Weights, factor: float, prefix: str = "") -> Array:
    pooled = np.stack((x.max(1), x.mean(1)), 1)
    return x * factor * sigmoid(batch_norm(conv(pooled, w, f"{prefix}conv"), w, f"{prefix}bn"))


def cbam(x: Array, w: Weights, factor: float) -> Array:
    return spatial(channel(x, w, factor, "channel."), w, factor, "spatial.")


CASES = [
    Case("channel", channel, channels=(13, 32, 67)),
    Case("channel", channel, {"reduction": 4}),
    Case("spatial", spatial),
    *[Case("spatial", spatial, {"kernel_size": size}) for size in (1, 3, 5)],
    Case("cbam", cbam, channels=(13, 32, 67)),
    Case("cbam", cbam, {"reduction": 4, "kernel_size": 3}),
]
COUNTS = [
    Count("cbam", 28_089_624 - 25_557_032, "Woo et al. 2018: from 25.56 M to 28.09 M in ResNet-50", RESNET50_BRANCHES),
]
