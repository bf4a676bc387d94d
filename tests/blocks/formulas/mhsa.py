"""Multi-head self-attention, among all positions and along axes, plain and with relative positions."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import pointwise, softmax
from .case import Array, Case, Weights

Bias = Array | float


def attention(x: Array, w: Weights, name: str, heads: int) -> Array:
    """Attend among the positions of (N, C, H, W), head by head, with the offsets' tables where there are some."""
    q, k, v = (pointwise(x, w, f"{name}.{each}") for each in ("query", "key", "value"))
    made, size = np.empty_like(x), x.shape[1] // heads
    for n, head, row, column in np.ndindex(len(x), heads, *x.shape[2:]):
        own = slice(head * size, (head + 1) * size)
        query = q[n, own, row, column]
        likeness = np.empty(x.shape[2:])
        for other in np.ndindex(*x.shape[2:]):
            key = k[n, own, *other] + relative(w, name, (row, column), other, x.shape[2:])
            likeness[other] = query @ key / np.sqrt(size)
        made[n, own, row, column] = (softmax(likeness, (0, 1)) * v[n, own]).sum((1, 2))
    return pointwise(made, w, f"{name}.project")


def relative(w: Weights, name: str, here: tuple[int, int], there: tuple[int, ...], sizes: tuple[int, ...]) -> Bias:
    if f"{name}.of_rows" not in w:
        return 0.0
    total: Bias = 0.0
    for axis, table in enumerate((w[f"{name}.of_rows"], w[f"{name}.of_columns"])):
        held = np.arange(len(table)) - len(table) // 2
        stretch = (len(table) // 2) / (sizes[axis] - 1) if sizes[axis] > 1 else 1
        offset = (there[axis] - here[axis]) * stretch
        total = total + np.array([np.interp(offset, held, entries) for entries in table.T])
    return total


def mhsa(x: Array, w: Weights, factor: float, heads: int = 1) -> Array:
    return x + attention(x, w, "attention", heads)


def axial(x: Array, w: Weights, factor: float, heads: int = 1) -> Array:
    made = x.copy()
    for row in range(x.shape[2]):
        made[:, :, row : row + 1] += attention(x[:, :, row : row + 1], w, "rows", heads)
    rows = made.copy()
    for column in range(x.shape[3]):
        made[:, :, :, column : column + 1] += attention(rows[:, :, :, column : column + 1], w, "columns", heads)
    return made


def windowed(x: Array, w: Weights, factor: float, window: int = 14) -> Array:
    assert len(w["attention.of_rows"]) == len(w["attention.of_columns"]) == 2 * window - 1
    return mhsa(x, w, factor)


CASES = [
    case
    for name, formula in (("mhsa", mhsa), ("axial", axial), ("botnet", mhsa))
    for case in (
        Case(name, formula, channels=(8, 13), size=(3, 4)),
        Case(name, partial(formula, heads=2), channels=(64, 94), size=(2, 3)),
        Case(name, partial(formula, heads=3), {"heads": 3}, (12,), (4, 3)),
        Case(name, partial(formula, heads=4), {"heads": 4}, (4,), (1, 5)),
    )
]
CASES += [
    Case(name, partial(windowed, window=window), {"window": window, **options}, (6,), size)
    for name, options in (("botnet", {}), ("mhsa", {"position": "relative"}))
    for window, size in [(4, (4, 4)), (5, (3, 9)), (2, (2, 2)), (3, (1, 1))]
]
