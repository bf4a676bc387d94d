"""Gated channel transformation and Gaussian context transformer."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import sigmoid
from .case import Array, Case, Weights


def gct(x: Array, w: Weights, factor: float, *, order: int = 2) -> Array:
    alpha, gamma, beta = (w[name].ravel() for name in ("alpha", "gamma", "beta"))
    y = np.empty_like(x)
    for each, made in zip(x, y, strict=True):
        lengths = alpha * np.array([measure(channel.ravel(), order) for channel in each])
        whole = np.abs(lengths).mean() + 1e-5 if order == 1 else np.sqrt((lengths**2).mean() + 1e-5)
        made[:] = each * (1 + np.tanh(gamma * lengths / whole + beta))[:, None, None]
    return y


def measure(values: Array, order: int) -> float:
    return float(np.abs(values).sum() if order == 1 else np.sqrt(values @ values + 1e-5))


def gauss(x: Array, w: Weights, factor: float, *, c: float = 2) -> Array:
    means = x.mean((2, 3))
    z = (means - means.mean(1, keepdims=True)) / np.sqrt(means.var(1, keepdims=True) + 1e-5)
    width = 1 + 3 * sigmoid(w["theta"]) if "theta" in w else c
    gate: Array = np.exp(-(z**2) / (2 * width**2))
    return x * gate[:, :, None, None]


CASES = [
    Case("gct", gct, channels=(1, 13, 32)),
    Case("gct", partial(gct, order=1), {"norm": "l1"}),
    Case("gct-gauss", gauss, channels=(1, 13, 32)),
    Case("gct-gauss", partial(gauss, c=0.7), {"c": 0.7}),
    Case("gct-gauss", gauss, {"learned": True}),
]
