"""The fusion of two branches by selective kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .arrays import batch_norm, dense, relu, softmax
from .case import Array, Case, Weights


def sk(x: Array, y: Array, w: Weights, factor: float) -> Array:
    channels = x.shape[1]
    hidden = relu(batch_norm(dense(x.mean((2, 3)) + y.mean((2, 3)), w, "reduce"), w, "norm"))
    logits = dense(hidden, w, "choose")
    assert hidden.shape[1] == len(w["norm.weight"])
    fused = np.empty_like(x)
    for n, c in np.ndindex(len(x), channels):
        share = factor * softmax(logits[n, [c, channels + c]])[0]
        fused[n, c] = share * x[n, c] + (1 - share) * y[n, c]
    return fused


def widths(hidden: int) -> Callable[..., Array]:
    """Hold the hidden width to the paper's max(C / r, L)."""

    def formula(x: Array, y: Array, w: Weights, factor: float) -> Array:
        assert w["reduce.weight"].shape[0] == hidden
        return sk(x, y, w, factor)

    return formula


CASES = [
    Case("sk", widths(32)),
    Case("sk", widths(12), {"reduction": 2, "least": 4}, (24,)),
    Case("sk", widths(8), {"reduction": 8, "least": 8}, (24,)),
]
