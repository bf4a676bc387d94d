"""Channel prior convolutional attention."""

from __future__ import annotations

from .arrays import conv, pointwise
from .case import Array, Case, Weights
from .cbam import channel


def cpca(x: Array, w: Weights, factor: float) -> Array:
    u = channel(x, w, factor, "channel.")
    near = conv(u, w, "near", groups=x.shape[1])
    total = near.copy()
    for index, length in enumerate((7, 11, 21)):
        assert w[f"strips.{index}.0.weight"].shape[2:] == (1, length)
        assert w[f"strips.{index}.1.weight"].shape[2:] == (length, 1)
        total += conv(conv(near, w, f"strips.{index}.0", groups=x.shape[1]), w, f"strips.{index}.1", groups=x.shape[1])
    return u * pointwise(total, w, "mix")


CASES = [Case("cpca", cpca, channels=(1, 13, 32)), Case("cpca", cpca, {"reduction": 2}, size=(23, 4))]
