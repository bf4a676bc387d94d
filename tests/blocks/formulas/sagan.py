"""Self-attention of SAGAN."""

from __future__ import annotations

import numpy as np

from .arrays import pointwise, softmax
from .case import Array, Case, Weights


def among(x: Array, w: Weights, name: str = "among") -> Array:
    """Sum values up for each position, by how alike its query and their keys are."""
    f, g, h = (
        pointwise(x, w, f"{name}.{each}").reshape(len(x), -1, x[0, 0].size) for each in ("key", "query", "value")
    )
    made = np.empty_like(h)
    for n, j in np.ndindex(len(x), x[0, 0].size):
        shares = softmax(np.array([f[n, :, i] @ g[n, :, j] for i in range(x[0, 0].size)]))
        made[n, :, j] = sum(share * h[n, :, i] for i, share in enumerate(shares))
    return made.reshape(x.shape)


def sagan(x: Array, w: Weights, factor: float) -> Array:
    assert len(w["among.query.weight"]) == max(1, x.shape[1] // 8)
    return x + w["gamma"] * among(x, w)


def reduced(x: Array, w: Weights, factor: float) -> Array:
    assert len(w["among.query.weight"]) == x.shape[1] // 3
    return x + w["gamma"] * among(x, w)


CASES = [
    Case("self", sagan, channels=(3, 8, 13, 64, 67), size=(3, 5)),
    Case("self", reduced, {"reduction": 3}, (36, 30)),
]
