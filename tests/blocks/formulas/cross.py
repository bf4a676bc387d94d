"""Cross-attention between two maps."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import dense, group_norm, softmax
from .case import Array, Case, Weights


def cross(x: Array, y: Array, w: Weights, factor: float, heads: int = 1) -> Array:
    asking, asked = (
        np.moveaxis(group_norm(each, w, name), 1, -1).reshape(len(x), -1, x.shape[1])
        for each, name in ((x, "norm_x"), (y, "norm_y"))
    )
    query, key, value = dense(asking, w, "query"), dense(asked, w, "key"), dense(asked, w, "value")
    found = np.empty_like(query)
    size = x.shape[1] // heads
    for n, head, place in np.ndindex(len(x), heads, query.shape[1]):
        group = slice(head * size, (head + 1) * size)
        scores = np.array([query[n, place, group] @ other[group] for other in key[n]]) / np.sqrt(size)
        found[n, place, group] = softmax(scores) @ value[n, :, group]
    made = dense(found, w, "project").reshape(len(x), *x.shape[2:], x.shape[1])
    return x + np.moveaxis(made, -1, 1)


CASES = [
    Case("cross", partial(cross, heads=8), channels=(8, 16)),
    Case("cross", partial(cross, heads=6), channels=(12,)),
    Case("cross", partial(cross, heads=1), channels=(13,), size=(1, 4)),
    *[Case("cross", partial(cross, heads=heads), {"heads": heads}, (16,)) for heads in (1, 2, 16)],
]
