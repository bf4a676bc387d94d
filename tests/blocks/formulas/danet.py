"""DANet and its halves."""

from __future__ import annotations

import numpy as np

from .arrays import softmax
from .case import Array, Case, Weights
from .sagan import among


def unlike(x: Array) -> Array:
    """Sum channels up for each, by how unlike they are."""
    made = np.empty_like(x)
    for n, c in np.ndindex(*x.shape[:2]):
        affinity = np.array([(x[n, c] * other).sum() for other in x[n]])
        shares = softmax(affinity.max() - affinity)
        made[n, c] = sum(share * other for share, other in zip(shares, x[n], strict=True))
    return made


def pam(x: Array, w: Weights, factor: float) -> Array:
    return x + w["gamma"] * among(x, w)


def cam(x: Array, w: Weights, factor: float) -> Array:
    return x + w["gamma"] * unlike(x)


def danet(x: Array, w: Weights, factor: float) -> Array:
    return x + w["alpha"] * among(x, w) + w["beta"] * unlike(x)


CASES = [
    Case("pam", pam, channels=(8, 13, 67)),
    Case("pam", pam, {"reduction": 3}),
    Case("cam", cam, channels=(1, 8, 13)),
    Case("danet", danet, channels=(8, 13, 67)),
    Case("danet", danet, {"reduction": 3}),
]
