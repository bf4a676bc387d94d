"""Self-attention at a cost that is linear in the positions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from .arrays import dense, pointwise, relu, sigmoid, softmax
from .case import Array, Case, Weights


def flat(x: Array) -> Array:
    """Turn (N, C, H, W) into (N, H · W, C)."""
    return x.reshape(*x.shape[:2], -1).swapaxes(1, 2)


def projected(x: Array, made: Array, w: Weights) -> Array:
    return x + (dense(made, w, "project") if "project.weight" in w else made).swapaxes(1, 2).reshape(x.shape)


def alone(x: Array, w: Weights, factor: float, formula: Callable[..., Array]) -> Array:
    return formula(x, w, factor) - x


def efficient(x: Array, w: Weights, factor: float, heads: int = 1) -> Array:
    q, k, v = (flat(pointwise(x, w, name)) for name in ("query", "key", "value"))
    made, size = np.zeros_like(v), v.shape[2] // heads
    for n, head in np.ndindex(len(x), heads):
        own = slice(head * size, (head + 1) * size)
        query, key = softmax(q[n, :, own], 1), softmax(k[n, :, own], 0)
        for i, j in np.ndindex(len(query), len(key)):
            made[n, i, own] += (query[i] @ key[j]) * v[n, j, own]
    return projected(x, made, w)


def external(x: Array, w: Weights, factor: float) -> Array:
    likeness = dense(dense(flat(x), w, "query"), w, "key_memory")
    shares = np.exp(likeness) / np.exp(likeness).sum(1, keepdims=True)
    shares = shares / shares.sum(2, keepdims=True)
    return projected(x, dense(shares, w, "value_memory"), w)


def double(x: Array, w: Weights, factor: float, features: int | None = None, descriptors: int | None = None) -> Array:
    a, b, v = (dense(flat(x), w, name) for name in ("feature", "gather", "distribute"))
    assert a.shape[2] == (features or max(2, x.shape[1] // 4))
    assert b.shape[2] == v.shape[2] == (descriptors or max(2, x.shape[1] // 4))
    made = np.zeros_like(a)
    for n, index in np.ndindex(len(x), b.shape[2]):
        descriptor = sum(share * each for share, each in zip(softmax(b[n, :, index]), a[n], strict=True))
        made[n] += softmax(v[n], 1)[:, index, None] * descriptor
    return projected(x, made, w)


def separable(x: Array, w: Weights, factor: float) -> Array:
    scores, key, value = (dense(flat(x), w, name) for name in ("score", "key", "value"))
    context = (softmax(scores, 1) * key).sum(1, keepdims=True)
    return projected(x, relu(value) * context, w)


def aft(x: Array, w: Weights, factor: float, kernel_size: int = 1) -> Array:
    q, k, v = (dense(flat(x), w, name) for name in ("query", "key", "value"))
    offsets, reach = w.get("offsets", np.zeros((x.shape[1], 1, 1, 1)))[:, 0], kernel_size // 2
    assert offsets.shape[1:] == (kernel_size, kernel_size)
    made = np.empty_like(v)
    for i, (row, column) in enumerate(np.ndindex(*x.shape[2:])):
        powers = np.exp(k)
        for j, (other_row, other_column) in enumerate(np.ndindex(*x.shape[2:])):
            if max(abs(other_row - row), abs(other_column - column)) <= reach:
                powers[:, j] *= np.exp(offsets[:, other_row - row + reach, other_column - column + reach])
        made[:, i] = sigmoid(q[:, i]) * (powers * v).sum(1) / powers.sum(1)
    return projected(x, made, w)


CASES = [
    Case("efficient", efficient, channels=(3, 8, 13)),
    Case("efficient", partial(efficient, heads=2), {"heads": 2}, (8,)),
    Case("efficient", efficient, {"reduction": 4}),
    Case("efficient", partial(efficient, heads=3), {"reduction": 1, "heads": 3}, (12,)),
    Case("efficient", partial(alone, formula=efficient), {"residual": False}),
    *[
        Case("aft-conv", partial(alone, formula=partial(aft, kernel_size=7)), {"residual": False, "project": project})
        for project in (True, False)
    ],
    Case("external", external),
    Case("external", external, {"size": 5}),
    Case("a2", double),
    Case("a2", partial(double, features=3), {"features": 3}),
    Case("a2", partial(double, descriptors=5), {"descriptors": 5}),
    Case("separable", separable, channels=(1, 8, 13)),
    Case("aft", aft),
    Case("aft-conv", partial(aft, kernel_size=7), size=(9, 10)),
    *[Case("aft-conv", partial(aft, kernel_size=size), {"kernel_size": size}) for size in (1, 3, 5)],
]
