"""Efficient channel attention."""

from __future__ import annotations

from itertools import product

import numpy as np

from .arrays import sigmoid
from .case import Array, Case, Count, Weights
from .networks import RESNET50_BRANCHES


def eca(x: Array, w: Weights, factor: float) -> Array:
    kernel = w["conv.weight"][0, 0]
    reach = len(kernel) // 2
    means = np.pad(x.mean((2, 3)), ((0, 0), (reach, reach)))
    z = np.stack([(means[:, c : c + len(kernel)] * kernel).sum(1) for c in range(x.shape[1])], 1)
    return x * (factor * sigmoid(z))[:, :, None, None]


def ring(x: Array, w: Weights, factor: float) -> Array:
    kernel, count = w["conv.weight"][0, 0], x.shape[1]
    means, z = x.mean((2, 3)), np.zeros(x.shape[:2])
    for channel, (place, weight) in product(range(count), enumerate(kernel)):
        z[:, channel] += weight * means[:, (channel + place - len(kernel) // 2) % count]
    return x * (factor * sigmoid(z))[:, :, None, None]


CASES = [
    Case("eca", eca, channels=(13, 32, 67)),
    *[Case("eca", eca, {"kernel_size": size}, (16,)) for size in (1, 3, 5)],
    Case("eca", eca, {"gamma": 1.0}, (64,)),
    Case("eca", eca, {"b": -20.0}, (64,)),
    Case("eca", ring, {"circular": True}, (1, 13, 32)),
    Case("eca", ring, {"circular": True, "kernel_size": 7}, (1, 2, 3, 16)),
]
# t = ⌊(log2 C + 1) / 2⌋: C = 256: 4.5 → 4 → 5; 512: 5; 1024: 5.5 → 5; 2048: 6 → 7; 13 · 5 + 3 · 7 = 86
# The paper's 80 are kernels of 3, 5, 5 and 7 by stage; for 256 channels its formula gives 5.
COUNTS = [
    Count("eca", 86, "Wang et al. 2020: under a hundred in ResNet-50", RESNET50_BRANCHES),
    Count("eca", 25_576_350 - 25_576_264, "timm: ecaresnet50d less resnet50d", RESNET50_BRANCHES),
]
