"""Large kernel attention."""

from __future__ import annotations

from functools import partial

from .arrays import conv, pointwise
from .case import Array, Case, Weights


def lka(x: Array, w: Weights, factor: float, near: int = 5, dilation: int = 3) -> Array:
    channels = x.shape[1]
    assert w["near.weight"].shape == (channels, 1, near, near)
    seen = conv(conv(x, w, "near", groups=channels), w, "far", groups=channels, dilation=dilation)
    return x * pointwise(seen, w, "mix")


CASES = [
    Case("lka", lka, channels=(1, 13, 16), size=(12, 7)),
    Case("lka", partial(lka, near=3, dilation=2), {"kernel_size": 5, "dilation": 2}),
]
