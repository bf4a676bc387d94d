"""Hard attention, as it is in evaluation."""

from __future__ import annotations

from functools import partial
from math import ceil

import numpy as np

from .arrays import conv, dense, group_norm, pointwise, relu
from .case import Array, Case, Weights


def largest(logits: Array, keep: float) -> Array:
    """Mark the largest; keep is a decimal, whose product with a count may be off by a rounding."""
    count = ceil(keep * len(logits) - 1e-9)
    order = sorted(range(len(logits)), key=lambda place: (-logits[place], place))
    return np.array([float(place in order[:count]) for place in range(len(logits))])


def positions(x: Array, w: Weights, factor: float, keep: float = 0.5) -> Array:
    z = pointwise(relu(conv(group_norm(x, w, "norm"), w, "look")), w, "choose")
    kept = [image * largest(each.ravel(), keep).reshape(each.shape) for image, each in zip(x, z, strict=True)]
    return np.stack(kept)


def channels(x: Array, w: Weights, factor: float, keep: float = 0.5) -> Array:
    pooled = group_norm(x.mean((2, 3)), w, "norm")
    z = dense(relu(dense(pooled, w, "look")), w, "choose")
    return np.stack([image * largest(row, keep)[:, None, None] for image, row in zip(x, z, strict=True)])


CASES = [
    Case("hard", positions),
    Case("hard", partial(positions, keep=0.3), {"keep": 0.3, "draw": "gumbel", "temperature": 0.1}, size=(5, 6)),
    Case("hard", partial(positions, keep=0.1), {"keep": 0.1, "reduction": 2}, size=(5, 6)),
    Case("hard", channels, {"over": "channels"}),
    Case("hard", partial(channels, keep=0.7), {"over": "channels", "keep": 0.7, "draw": "gumbel"}, (8, 10, 13)),
]
