"""Coordinate attention."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from .arrays import batch_norm, dense, hard_sigmoid, relu, sigmoid
from .case import Array, Case, Count, Weights
from .networks import MOBILENETV2_DEPTHWISE


def hardswish(z: Array) -> Array:
    return z * hard_sigmoid(z)


def coord(
    x: Array,
    w: Weights,
    factor: float,
    activation: Callable[[Array], Array] = hardswish,
    function: Callable[[Array], Array] = sigmoid,
) -> Array:
    def gate(mean: Array, name: str) -> Array:
        a = dense(mean, w, "squeeze")
        a = batch_norm(a, w, "bn") if "bn.weight" in w else a
        return factor * function(dense(activation(a), w, name))[:, :, None]

    y = np.empty_like(x)
    for row in range(x.shape[2]):
        y[:, :, row] = x[:, :, row] * gate(x[:, :, row].mean(2), "conv_h")
    for column in range(x.shape[3]):
        y[:, :, :, column] *= gate(x[:, :, :, column].mean(2), "conv_w")
    return y


CASES = [
    Case("coord", coord, channels=(13, 32, 67)),
    Case("coord", coord, {"reduction": 2}, (32,)),
    Case("coord", coord, {"bias": False}),
    Case("coord", coord, {"norm": False}),
    Case("coord", coord, {"norm": False, "bias": False}),
    Case("coord", coord, {"least": 1}, (1, 16, 64)),
    Case("coord", partial(coord, activation=relu), {"activation": "relu"}),
    Case("coord", partial(coord, function=hard_sigmoid), {"gate": "hardsigmoid"}),
]
# 3Cm + 2m + 2C, m = C / 32, at least 8: 2512 + 2 · 3760 + 3 · 5008 + 4 · 14616 + 3 · 32292 + 3 · 88380
COUNTS = [Count("coord", 445_536, "Hou et al. 2021: from 3.50 M to 3.95 M in MobileNetV2", MOBILENETV2_DEPTHWISE)]
