"""Global attention mechanism."""

from __future__ import annotations

from .arrays import batch_norm, conv, pointwise, relu, sigmoid
from .case import Array, Case, Weights


def gam(x: Array, w: Weights, factor: float) -> Array:
    u = x * factor * sigmoid(pointwise(relu(pointwise(x, w, "fc1")), w, "fc2"))
    hidden = relu(batch_norm(conv(u, w, "conv1"), w, "bn1"))
    return u * factor * sigmoid(batch_norm(conv(hidden, w, "conv2"), w, "bn2"))


CASES = [Case("gam", gam, channels=(1, 13, 32)), Case("gam", gam, {"reduction": 2, "kernel_size": 3})]
