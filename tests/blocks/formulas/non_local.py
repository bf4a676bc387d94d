"""The non-local block in its four modes."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import batch_norm, pointwise, relu, softmax
from .case import Array, Case, Count, Weights


def pooled(x: Array) -> Array:
    """Take the maxima of 2×2 positions, of fewer at the end."""
    made = np.empty((*x.shape[:2], (x.shape[2] + 1) // 2, (x.shape[3] + 1) // 2))
    for row, column in np.ndindex(*made.shape[2:]):
        made[:, :, row, column] = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].max((2, 3))
    return made


def non_local(
    x: Array, w: Weights, factor: float, mode: str = "embedded", subsample: bool = False, scaled: bool = False
) -> Array:
    theta, phi = (x, x) if mode == "gaussian" else (pointwise(x, w, "theta"), pointwise(x, w, "phi"))
    g = pointwise(x, w, "g")
    phi, g = (pooled(phi), pooled(g)) if subsample else (phi, g)
    made = np.empty((*g.shape[:2], *x.shape[2:]))
    for n, row, column in np.ndindex(len(x), *x.shape[2:]):
        query, keys, values = theta[n, :, row, column], phi[n].reshape(phi.shape[1], -1), g[n].reshape(g.shape[1], -1)
        made[n, :, row, column] = values @ weigh(query, keys, w, mode, np.sqrt(len(query)) if scaled else 1)
    made = pointwise(made, w, "project")
    return x + (batch_norm(made, w, "bn") if "bn.weight" in w else made)


def weigh(query: Array, keys: Array, w: Weights, mode: str, root: float) -> Array:
    likeness: Array = query @ keys
    if mode == "concatenation":
        likeness = relu(w["pair.weight"][0] @ np.concatenate((np.repeat(query[:, None], keys.shape[1], 1), keys)))
    return softmax(likeness / root) if mode in ("embedded", "gaussian") else likeness / keys.shape[1]


MODES: tuple[str, ...] = ("embedded", "gaussian", "dot", "concatenation")
CASES = [
    Case("nonlocal", non_local, channels=(3, 13, 64), size=(3, 5)),
    Case("nonlocal", non_local, {"reduction": 5}, (13, 40)),
    Case("nonlocal", non_local, {"norm": False}),
]
CASES += [
    Case("nonlocal", partial(non_local, **options), options, (13,), size)
    for mode in MODES
    for options in ({"mode": mode}, {"mode": mode, "subsample": True}, {"mode": mode, "scaled": True})
    for size in ((7, 5), (4, 6))
]
CASES += [Case("nonlocal", partial(non_local, mode=mode), {"mode": mode, "norm": False}, (6,)) for mode in MODES]
# 4 · 1024 · 512 + 512 of the query's bias + 2 · 1024 of the norm
COUNTS = [Count("nonlocal", 2_099_712, "Cao et al. 2019: from 44.4 M to 46.5 M with one block in c4", (1024,))]
