"""Criss-cross attention."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import pointwise, softmax
from .case import Array, Case, Weights


def once(x: Array, w: Weights) -> Array:
    q, k, v = (pointwise(x, w, name) for name in ("query", "key", "value"))
    made = np.empty_like(x)
    for n, row, column in np.ndindex(len(x), *x.shape[2:]):
        seen = {(row, each) for each in range(x.shape[3])} | {(each, column) for each in range(x.shape[2])}
        assert len(seen) == x.shape[2] + x.shape[3] - 1
        shares = softmax(np.array([q[n, :, row, column] @ k[n, :, *other] for other in seen]))
        made[n, :, row, column] = sum(share * v[n, :, *other] for share, other in zip(shares, seen, strict=True))
    return x + w["gamma"] * made


def crisscross(x: Array, w: Weights, factor: float, recurrence: int = 2) -> Array:
    for _ in range(recurrence):
        x = once(x, w)
    return x


CASES = [
    Case("crisscross", crisscross, channels=(8, 13, 67)),
    Case("crisscross", crisscross, {"reduction": 3}),
    *[Case("crisscross", partial(crisscross, recurrence=times), {"recurrence": times}, (8,)) for times in (1, 3)],
]
