"""Frequency channel attention."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from math import ceil, cos, pi

import numpy as np

from .arrays import dense, relu, sigmoid
from .case import Array, Case, Count, Weights
from .networks import RESNET50_BRANCHES

# (height, width), in the authors' order
BEST = [(0, 0), (0, 1), (6, 0), (0, 5), (0, 2), (1, 0), (1, 2), (4, 0), (5, 0), (1, 6), (3, 0), (0, 4), (0, 6), (0, 3)]
BEST += [(3, 5), (2, 2), (4, 6), (6, 3), (3, 3), (5, 3), (5, 5), (2, 1), (6, 1), (5, 2), (5, 4), (3, 2), (3, 1), (4, 1)]
BEST += [(2, 3), (2, 0), (6, 5), (1, 3)]


def fca(x: Array, w: Weights, factor: float, *, count: int = 16) -> Array:
    channels = x.shape[1]
    count = min(count, channels)
    ends = [ceil(group * channels / count) for group in range(count + 1)]
    found = np.zeros(x.shape[:2])
    for (down, along), (first, end) in zip(BEST, pairwise(ends), strict=False):
        wave = np.outer(cosine(down, x.shape[2]), cosine(along, x.shape[3]))
        found[:, first:end] = (x[:, first:end] * wave).mean((2, 3))
    z = dense(relu(dense(found, w, "fc1")), w, "fc2")
    return x * (factor * sigmoid(z))[:, :, None, None]


def cosine(frequency: int, size: int) -> Array:
    cycles = frequency * max(1, size // 7)
    return np.array([cos(pi * cycles * (place + 0.5) / size) for place in range(size)])


CASES = [
    Case("fca", fca, channels=(1, 13, 32, 67), size=(14, 7)),
    Case("fca", fca, size=(5, 20)),
    Case("fca", partial(fca, count=1), {"frequencies": 1}),
    Case("fca", partial(fca, count=32), {"frequencies": 32}, (64,), (21, 31)),
    Case("fca", fca, {"reduction": 4}),
]
COUNTS = [Count("fca", 2_514_944, "Qin et al. 2021: 25.56 to 28.07 M in ResNet-50", RESNET50_BRANCHES)]
