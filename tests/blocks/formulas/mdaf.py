"""The multiscale dual-representation alignment filter."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import conv, layer_norm, pointwise
from .case import Array, Case, Weights


def strips(x: Array, w: Weights, name: str) -> Array:
    total = np.zeros_like(x)
    for index, shape in enumerate([(1, 7), (1, 11), (1, 21), (7, 1), (11, 1), (21, 1)]):
        assert w[f"{name}.{index}.weight"].shape == (x.shape[1], 1, *shape)
        total += conv(x, w, f"{name}.{index}", groups=x.shape[1])
    return total


def answer(query: Array, source: Array, heads: int) -> Array:
    """Attend from the rows of one map (N, C, H, W) to those of the other."""
    y, size = np.empty_like(query), query.shape[1] // heads
    for n, head, row in np.ndindex(len(query), heads, query.shape[2]):
        group = slice(head * size, (head + 1) * size)
        own = query[n, group, row] / np.linalg.norm(query[n, group, row])
        others = [source[n, group, other] for other in range(query.shape[2])]
        likeness = np.exp([(own * other / np.linalg.norm(other)).sum() for other in others])
        mixed = sum(share * other for share, other in zip(likeness / likeness.sum(), others, strict=True))
        y[n, group, row] = mixed + own
    return y


def mdaf(x: Array, y: Array, w: Weights, factor: float, heads: int = 1) -> Array:
    normal_x, normal_y = layer_norm(x, w, "norm_x"), layer_norm(y, w, "norm_y")
    u = pointwise(strips(normal_x, w, "strips_x"), w, "project")
    v = pointwise(strips(normal_y, w, "strips_y"), w, "project")
    rows = answer(v, u, heads)
    columns = answer(u.swapaxes(2, 3), v.swapaxes(2, 3), heads).swapaxes(2, 3)
    return pointwise(rows, w, "project") + pointwise(columns, w, "project") + normal_x + normal_y


CASES = [
    Case("mdaf", partial(mdaf, heads=8), channels=(16,)),
    *[Case("mdaf", partial(mdaf, heads=heads), {"heads": heads}, (16,), (26, 3)) for heads in (1, 2, 16)],
    Case("mdaf", partial(mdaf, heads=6), channels=(12,), size=(1, 4)),
    Case("mdaf", partial(mdaf, heads=1), channels=(13,)),
]
