"""Attentional feature fusion, once and twice."""

from __future__ import annotations

from .arrays import batch_norm, pointwise, relu, sigmoid
from .case import Array, Case, Weights


def bottleneck(x: Array, w: Weights, name: str) -> Array:
    hidden = relu(batch_norm(pointwise(x, w, f"{name}.reduce"), w, f"{name}.norm"))
    return batch_norm(pointwise(hidden, w, f"{name}.expand"), w, f"{name}.last")


def context(x: Array, w: Weights, name: str) -> Array:
    pooled = x.sum((2, 3), keepdims=True) / (x.shape[2] * x.shape[3])
    return bottleneck(x, w, f"{name}.near") + bottleneck(pooled, w, f"{name}.whole")


def aff(x: Array, y: Array, w: Weights, factor: float) -> Array:
    share = factor * sigmoid(context(x + y, w, "context"))
    return share * x + (1 - share) * y


def iaff(x: Array, y: Array, w: Weights, factor: float) -> Array:
    first = sigmoid(context(x + y, w, "first"))
    second = factor * sigmoid(context(first * x + (1 - first) * y, w, "second"))
    return second * x + (1 - second) * y


CASES = [
    case
    for name, formula in [("aff", aff), ("iaff", iaff)]
    for case in (Case(name, formula), Case(name, formula, {"reduction": 2}), Case(name, formula, {"least": 5}))
]
