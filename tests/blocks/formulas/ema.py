"""Efficient multi-scale attention."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import conv, dense, sigmoid, softmax
from .case import Array, Case, Weights


def one_group(g: Array, w: Weights, factor: float) -> Array:
    """Gate a group (m, H, W) of one image."""
    rows, columns = dense(g.mean(2).T, w, "conv1").T, dense(g.mean(1).T, w, "conv1").T
    p = g * sigmoid(rows)[:, :, None] * sigmoid(columns)[:, None, :]
    for channel in range(len(g)):
        normal = (p[channel] - p[channel].mean()) / np.sqrt(p[channel].var() + 1e-5)
        p[channel] = w["norm.weight"][channel] * normal + w["norm.bias"][channel]
    q = conv(g[None], w, "conv3")[0]
    of_p, of_q = softmax(p.mean((1, 2))), softmax(q.mean((1, 2)))
    z = sum((of_p[c] * q[c] + of_q[c] * p[c] for c in range(len(g))), np.zeros(1))
    return g * factor * sigmoid(z)


def ema(x: Array, w: Weights, factor: float, groups: int) -> Array:
    parts = [[one_group(g, w, factor) for g in np.split(image, groups)] for image in x]
    return np.stack([np.concatenate(image) for image in parts])


CASES = [
    Case("ema", partial(ema, groups=4), channels=(8,)),
    Case("ema", partial(ema, groups=1), channels=(1, 3, 13)),
    Case("ema", partial(ema, groups=32), channels=(96,), size=(3, 4)),
    Case("ema", partial(ema, groups=3), {"groups": 3}, (12, 15)),
]
