"""Focal modulation."""

from __future__ import annotations

from functools import partial
from math import erf

import numpy as np

from .arrays import conv, group_norm, pointwise
from .case import Array, Case, Weights


def gelu(x: Array) -> Array:
    made: Array = x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2
    return made


def focal(x: Array, w: Weights, factor: float, levels: int = 3, first: int = 3) -> Array:
    normal = group_norm(x, w, "norm")
    gates, context = pointwise(normal, w, "gates"), pointwise(normal, w, "context")
    total = np.zeros_like(x)
    for level in range(levels):
        side = first + 2 * level
        assert w[f"levels.{level}.weight"].shape[2:] == (side, side)
        context = gelu(conv(context, w, f"levels.{level}", groups=x.shape[1]))
        total += gates[:, level : level + 1] * context
    total += gates[:, levels:] * gelu(context.mean((2, 3), keepdims=True))
    return x + pointwise(pointwise(normal, w, "query") * pointwise(total, w, "modulate"), w, "project")


CASES = [
    Case("focal", focal),
    Case("focal", partial(focal, levels=2, first=5), {"levels": 2, "kernel_size": 5}),
    Case("focal", partial(focal, levels=1, first=1), {"levels": 1, "kernel_size": 1}),
]
