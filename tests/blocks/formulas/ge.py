"""Gather-excite."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import batch_norm, relu, sigmoid
from .case import Array, Case, Weights


def learnt(x: Array, w: Weights, factor: float, *, convolutions: int) -> Array:
    gathered = x
    for index in range(convolutions):
        gathered = gathered if index == 0 else relu(gathered)
        gathered = batch_norm(halved(gathered, w[f"gather.{3 * index}.weight"][:, 0]), w, f"gather.{3 * index + 1}")
    return x * factor * sigmoid(spread(gathered, x.shape[2:], 2**convolutions))


def halved(x: Array, kernels: Array) -> Array:
    """Correlate each channel with its 3×3 kernel around every second row and column."""
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    made = np.zeros((*x.shape[:2], (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2))
    for row, column in np.ndindex(*made.shape[2:]):
        window = padded[:, :, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3]
        made[:, :, row, column] = (window * kernels).sum((2, 3))
    return made


def means(x: Array, w: Weights, factor: float, *, extent: int) -> Array:
    high, wide = x.shape[2:]
    gathered = np.zeros((*x.shape[:2], -(-high // extent), -(-wide // extent)))
    for row, column in np.ndindex(*gathered.shape[2:]):
        above, left = extent * row - extent + 1, extent * column - extent + 1
        inside = x[:, :, max(above, 0) : above + 2 * extent - 1, max(left, 0) : left + 2 * extent - 1]
        gathered[:, :, row, column] = inside.mean((2, 3))
    return x * sigmoid(spread(gathered, x.shape[2:], extent))


def spread(small: Array, size: tuple[int, ...], extent: int) -> Array:
    return small.repeat(extent, 2).repeat(extent, 3)[:, :, : size[0], : size[1]]


def whole(x: Array, w: Weights, factor: float) -> Array:
    return x * sigmoid(x.mean((2, 3), keepdims=True))


SIZE = (21, 13)
CASES = [
    Case("ge", partial(learnt, convolutions=3), size=SIZE),
    Case("ge", partial(learnt, convolutions=2), {"extent": 4}, size=SIZE),
    Case("ge", partial(learnt, convolutions=1), {"extent": 2}),
    *[
        Case("ge", partial(means, extent=extent), {"parameters": False, "extent": extent}, size=SIZE)
        for extent in (1, 2, 3, 4, 8)
    ],
    Case("ge", whole, {"parameters": False, "extent": 0}),
]
