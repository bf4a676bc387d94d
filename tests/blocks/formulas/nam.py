"""Normalisation-based attention, its channel half."""

from __future__ import annotations

from .arrays import batch_norm, sigmoid
from .case import Array, Case, Weights


def nam(x: Array, w: Weights, factor: float) -> Array:
    normal, total = batch_norm(x, w, "bn"), sum(abs(gamma) for gamma in w["bn.weight"])
    y = x.copy()
    for channel, gamma in enumerate(w["bn.weight"]):
        y[:, channel] *= sigmoid(abs(gamma) / total * normal[:, channel])
    return y


CASES = [Case("nam", nam, channels=(1, 13, 32))]
