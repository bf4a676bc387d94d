"""Simple attention without parameters."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import sigmoid
from .case import Array, Case, Weights


def simam(x: Array, w: Weights, factor: float, *, least: float = 1e-4) -> Array:
    y = np.empty_like(x)
    for image, channel in np.ndindex(*x.shape[:2]):
        values = x[image, channel]
        mean, variance = values.mean(), values.var()
        energy = 4 * (variance + least) / ((values - mean) ** 2 + 2 * variance + 2 * least)
        y[image, channel] = values * sigmoid(1 / energy)
    return y


CASES = [Case("simam", simam), Case("simam", partial(simam, least=0.5), {"e_lambda": 0.5})]
