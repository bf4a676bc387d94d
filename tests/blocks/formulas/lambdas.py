"""Lambda layers, a matrix for each position."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import batch_norm, pointwise, softmax
from .case import Array, Case, Weights


def lambdas(x: Array, w: Weights, factor: float, heads: int = 4) -> Array:
    n, channels, height, width = x.shape
    query = batch_norm(pointwise(x, w, "query"), w, "norm_q").reshape(n, heads, -1, height, width)
    key = softmax(pointwise(x, w, "key"), (2, 3))
    value = batch_norm(pointwise(x, w, "value"), w, "norm_v")
    around = w["around.weight"][:, 0]
    reach = around.shape[1] // 2
    y = np.empty((n, heads, channels // heads, height, width))
    for image, row, column in np.ndindex(n, height, width):
        matrix = np.zeros((key.shape[1], value.shape[1]))
        for up, left in np.ndindex(height, width):
            matrix += np.outer(key[image, :, up, left], value[image, :, up, left])
            if abs(up - row) <= reach and abs(left - column) <= reach:
                matrix += np.outer(around[:, up - row + reach, left - column + reach], value[image, :, up, left])
        for head in range(heads):
            y[image, head, :, row, column] = matrix.T @ query[image, head, :, row, column]
    return y.reshape(x.shape)


CASES = [
    Case("lambda", lambdas, channels=(8, 12)),
    Case("lambda", partial(lambdas, heads=1), channels=(13,), size=(9, 10)),
    Case("lambda", partial(lambdas, heads=2), {"heads": 2, "kernel_size": 3, "key_width": 5}, (12,)),
]
