"""Effective squeeze-and-excitation."""

from __future__ import annotations

import numpy as np

from .arrays import dense
from .case import Array, Case, Count, Weights


def ese(x: Array, w: Weights, factor: float) -> Array:
    z = dense(x.mean((2, 3)), w, "fc")
    gate = np.interp(z, (-3, 3), (0, 1))
    return x * (factor * gate)[:, :, None, None]


CASES = [Case("ese", ese, channels=(1, 13, 32, 67))]
COUNTS = [
    Count(
        "ese",
        24_568_936 - 22_600_296,
        "timm: ese_vovnet39b less vovnet39a, which has none",
        (256, 512, 768, 1024),
    )
]
