"""The contextual transformer block."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import batch_norm, conv, dense, group_norm, pointwise, relu, sigmoid, softmax
from .case import Array, Case, Weights


def cot(x: Array, w: Weights, factor: float, side: int = 3, groups: int = 4, share: int = 8) -> Array:
    static = relu(batch_norm(conv(x, w, "key", groups=groups), w, "norm_k"))
    hidden = relu(batch_norm(pointwise(np.concatenate((x, static), 1), w, "reduce"), w, "norm_a"))
    weights = group_norm(pointwise(hidden, w, "weigh"), w, "norm_w", x.shape[1] // share)
    value = batch_norm(pointwise(x, w, "value"), w, "norm_v")
    mixed = np.zeros_like(x)
    for image, channel, row, column in np.ndindex(*x.shape):
        for place, (up, left) in enumerate(np.ndindex(side, side)):
            there = row + up - side // 2, column + left - side // 2
            if 0 <= there[0] < x.shape[2] and 0 <= there[1] < x.shape[3]:
                weight = weights[image, channel // share * side**2 + place, row, column]
                mixed[image, channel, row, column] += weight * value[image, channel][there]
    mixed = batch_norm(mixed, w, "norm_d")
    return fused(mixed * sigmoid(mixed), static, w)


def fused(dynamic: Array, static: Array, w: Weights) -> Array:
    pooled = (dynamic + static).mean((2, 3))
    hidden = relu(batch_norm(dense(pooled, w, "fuse.reduce"), w, "fuse.norm"))
    of_dynamic, of_static = np.split(dense(hidden, w, "fuse.choose"), 2, 1)
    shares = softmax(np.stack((of_dynamic, of_static)), 0)[..., None, None]
    y: Array = shares[0] * dynamic + shares[1] * static
    return y


CASES = [
    Case("cot", cot, channels=(8, 16)),
    Case("cot", partial(cot, groups=4, share=6), channels=(12,), size=(1, 4)),
    Case("cot", partial(cot, groups=1, share=1), channels=(13,)),
    Case("cot", partial(cot, side=5, groups=3, share=2), {"kernel_size": 5, "groups": 3, "share": 2}, (12,)),
]
