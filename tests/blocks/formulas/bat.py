"""Bilinear attentional transforms, with one large matrix for the rows and one for the columns."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import batch_norm, dense, pointwise, relu, sigmoid
from .case import Array, Case, Weights


def bat(x: Array, w: Weights, factor: float, bands: int = 7, groups: int = 2) -> Array:
    u = relu(batch_norm(pointwise(x, w, "reduce"), w, "norm"))
    look = relu(batch_norm(pointwise(u, w, "look"), w, "norm_o"))
    moved = np.empty_like(u)
    for image, matrices in enumerate(look):
        left, right = (large(each, w, name, bands, groups) for each, name in sides(matrices))
        for channel in range(u.shape[1]):
            group = channel * groups // u.shape[1]
            high, wide = len(left[group]), len(right[group])
            filled = np.zeros((high, wide))
            filled[: x.shape[2], : x.shape[3]] = u[image, channel]
            mixed = left[group] @ filled @ right[group].T
            moved[image, channel] = mixed[: x.shape[2], : x.shape[3]]
    hidden = relu(batch_norm(pointwise(moved, w, "mix"), w, "norm_m"))
    return x + relu(batch_norm(pointwise(hidden, w, "expand"), w, "last"))


def sides(look: Array) -> list[tuple[Array, str]]:
    """Give the largest of each row and of each column, for each group."""
    return [(look.max(2), "rows"), (look.max(1), "columns")]


def large(largest: Array, w: Weights, name: str, bands: int, groups: int) -> list[Array]:
    """Make each group's matrix between all positions of a side, filled up to whole bands."""
    places = -(-largest.shape[1] // bands)
    filled = np.zeros((groups, bands * places))
    filled[:, : largest.shape[1]] = largest
    pooled = np.array([[line[band * places : (band + 1) * places].max() for band in range(bands)] for line in filled])
    shares = sigmoid(dense(pooled.ravel(), w, name)).reshape(groups, bands, bands)
    if name == "columns":  # these are told from where they come to where they go
        shares = shares.swapaxes(1, 2)
    shares = shares / shares.sum(2, keepdims=True)
    return [np.kron(each, np.eye(places)) for each in shares]


CASES = [
    Case("bat", bat, channels=(8, 16), size=(9, 15)),
    Case("bat", partial(bat, groups=1), channels=(13,), size=(7, 14)),
    Case("bat", partial(bat, bands=3, groups=3), {"bands": 3, "groups": 3, "reduction": 2}, (12,)),
]
