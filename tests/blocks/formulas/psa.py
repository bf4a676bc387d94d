"""Polarized self-attention."""

from __future__ import annotations

import numpy as np

from .arrays import dense, layer_norm, pointwise, sigmoid, softmax
from .case import Array, Case, Weights


def channels(x: Array, w: Weights) -> Array:
    """Give the channels' σ(z) as (N, C, 1, 1)."""
    shares = softmax(pointwise(x, w, "channel.query")[:, 0], (1, 2))
    chosen = np.einsum("nhw,nchw->nc", shares, x)  # the value is linear: what is summed up first is the same
    z = dense(dense(chosen, w, "channel.value"), w, "channel.expand")
    return sigmoid(layer_norm(z[:, :, None, None], w, "channel.norm"))


def positions(x: Array, w: Weights) -> Array:
    """Give the positions' σ(z) as (N, 1, H, W)."""
    query, value = pointwise(x, w, "position.query").mean((2, 3)), pointwise(x, w, "position.value")
    z = np.zeros((len(x), 1, *x.shape[2:]))
    for n, row, column in np.ndindex(len(x), *x.shape[2:]):
        z[n, 0, row, column] = softmax(query[n]) @ value[n, :, row, column]
    return sigmoid(z)


def parallel(x: Array, w: Weights, factor: float) -> Array:
    return x * channels(x, w) + x * positions(x, w)


def sequential(x: Array, w: Weights, factor: float) -> Array:
    gated = x * factor * channels(x, w)
    return gated * factor * positions(gated, w)


CASES = [
    Case(name, formula, options, widths)
    for name, formula in (("psa-p", parallel), ("psa-s", sequential))
    for options, widths in (({}, (3, 13, 32)), ({"reduction": 4}, (16,)))
]
