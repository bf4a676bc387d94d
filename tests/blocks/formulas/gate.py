"""The attention gate."""

from __future__ import annotations

from .arrays import batch_norm, pointwise, relu, sigmoid
from .case import Array, Case, Weights


def gate(x: Array, g: Array, w: Weights, factor: float) -> Array:
    of_x, of_g = batch_norm(pointwise(x, w, "conv_x"), w, "bn_x"), batch_norm(pointwise(g, w, "conv_g"), w, "bn_g")
    return x * factor * sigmoid(batch_norm(pointwise(relu(of_x + of_g), w, "psi"), w, "bn"))


CASES = [Case("gate", gate), Case("gate", gate, {"reduction": 4})]
