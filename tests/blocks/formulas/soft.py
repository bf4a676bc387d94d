"""Soft attention over positions."""

from __future__ import annotations

import numpy as np

from .arrays import conv, pointwise, relu, sigmoid
from .case import Array, Case, Weights


def logits(x: Array, w: Weights) -> Array:
    return pointwise(relu(conv(x, w, "look")), w, "weigh")


def by_sigmoid(x: Array, w: Weights, factor: float) -> Array:
    return factor * x * sigmoid(logits(x, w))


def by_softmax(x: Array, w: Weights, factor: float) -> Array:
    powers = np.exp(logits(x, w))
    y: Array = x * powers / powers.mean((2, 3), keepdims=True)
    return y


CASES = [
    Case("soft", by_sigmoid, channels=(8, 13, 40)),
    Case("soft", by_sigmoid, {"kernel_size": 5, "reduction": 2}),
    Case("soft", by_softmax, {"form": "softmax"}, size=(3, 3)),
    Case("soft", by_softmax, {"form": "softmax", "kernel_size": 1, "reduction": 4}),
]
