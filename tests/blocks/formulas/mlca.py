"""Mixed local channel attention."""

from __future__ import annotations

from functools import partial
from math import ceil

import numpy as np

from .arrays import sigmoid
from .case import Array, Case, Weights


def pooled(x: Array, high: int, wide: int) -> Array:
    """Average (N, C, H, W) over the cells of adaptive pooling, one by one."""
    y = np.empty((*x.shape[:2], high, wide))
    for row, column in np.ndindex(high, wide):
        rows = slice(row * x.shape[2] // high, ceil((row + 1) * x.shape[2] / high))
        columns = slice(column * x.shape[3] // wide, ceil((column + 1) * x.shape[3] / wide))
        y[:, :, row, column] = x[:, :, rows, columns].mean((2, 3))
    return y


def along(values: Array, kernel: Array) -> Array:
    reach = len(kernel) // 2
    padded = np.pad(values, reach)
    return np.array([padded[place : place + len(kernel)] @ kernel for place in range(len(values))])


def mlca(x: Array, w: Weights, factor: float, patches: int = 5, weight: float = 0.5) -> Array:
    local, whole = w["local.weight"][0, 0], w["whole.weight"][0, 0]
    means = pooled(x, patches, patches)
    gates = np.empty_like(means)
    for n, image in enumerate(means):
        row = along(np.concatenate([image[:, i, j] for i, j in np.ndindex(patches, patches)]), local)
        of_all = sigmoid(along(image.mean((1, 2)), whole))
        for place, (i, j) in enumerate(np.ndindex(patches, patches)):
            own = row[place * len(image) : (place + 1) * len(image)]
            gates[n, :, i, j] = weight * sigmoid(own) + (1 - weight) * of_all
    return x * factor * pooled(gates, *x.shape[2:])


CASES = [
    Case("mlca", mlca, channels=(1, 13, 32), size=(7, 12)),
    Case("mlca", mlca, size=(3, 1)),
    Case("mlca", partial(mlca, patches=3), {"patches": 3, "kernel_size": 3}, size=(10, 4)),
    Case("mlca", partial(mlca, weight=0.3), {"weight": 0.3, "gamma": 1.0, "b": -2.0}, (32,)),
]
