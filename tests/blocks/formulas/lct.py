"""Linear context transform."""

from __future__ import annotations

from functools import partial

from .arrays import group_norm, sigmoid
from .case import Array, Case, Weights


def lct(x: Array, w: Weights, factor: float, *, groups: int) -> Array:
    z = group_norm(x.mean((2, 3)), w, "norm", groups)
    return x * (factor * sigmoid(z))[:, :, None, None]


CASES = [
    Case("lct", partial(lct, groups=1), channels=(1, 3, 13, 67)),
    Case("lct", partial(lct, groups=8), channels=(32,)),
    Case("lct", partial(lct, groups=64), channels=(512,)),
    Case("lct", partial(lct, groups=4), {"groups": 4}, (8, 12)),
]
