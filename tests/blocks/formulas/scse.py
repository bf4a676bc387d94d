"""Concurrent squeeze and excitation."""

from __future__ import annotations

import numpy as np

from .arrays import dense, pointwise, relu, sigmoid
from .case import Array, Case, Weights


def halves(x: Array, w: Weights) -> tuple[Array, Array]:
    z = dense(relu(dense(x.mean((2, 3)), w, "fc1")), w, "fc2")
    return x * sigmoid(z)[:, :, None, None], x * sigmoid(pointwise(x, w, "point"))


def add(x: Array, w: Weights, factor: float) -> Array:
    return np.add(*halves(x, w))


def largest(x: Array, w: Weights, factor: float) -> Array:
    return factor * np.maximum(*halves(x, w))


CASES = [
    Case("scse", add, channels=(1, 13, 32)),
    Case("scse", add, {"reduction": 8}, (32,)),
    Case("scse", largest, {"combine": "max"}),
]
