"""Spatial group-wise enhance."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import sigmoid
from .case import Array, Case, Weights


def sge(x: Array, w: Weights, factor: float, *, groups: int) -> Array:
    return factor * np.stack(
        [np.concatenate([enhanced(part, w, g) for g, part in enumerate(np.split(each, groups))]) for each in x]
    )


def enhanced(part: Array, w: Weights, group: int) -> Array:
    likeness = np.tensordot(part.mean((1, 2)), part, 1)
    normal = (likeness - likeness.mean()) / np.sqrt(likeness.var() + 1e-5)
    return part * sigmoid(w["norm.weight"][group] * normal + w["norm.bias"][group])


CASES = [
    Case("sge", partial(sge, groups=13), channels=(13,)),
    Case("sge", partial(sge, groups=64), channels=(128,)),
    Case("sge", partial(sge, groups=4), {"groups": 4}, (4, 8, 12)),
]
