"""Shuffle attention."""

from __future__ import annotations

from functools import partial

import numpy as np

from .arrays import sigmoid
from .case import Array, Case, Weights


def shuffle(x: Array, w: Weights, factor: float, groups: int) -> Array:
    channels = x.shape[1]
    share = channels // groups
    half = max(1, share // 2)
    made = np.empty_like(x)
    for n, channel in np.ndindex(*x.shape[:2]):
        own, within = x[n, channel], channel % share
        if within < half:
            z = w["by_mean.weight"][within] * own.mean() + w["by_mean.bias"][within]
        else:
            within -= half
            normal = (own - own.mean()) / np.sqrt(own.var() + 1e-5)
            normal = w["by_position.norm.weight"][within] * normal + w["by_position.norm.bias"][within]
            z = w["by_position.weight"][within] * normal + w["by_position.bias"][within]
        made[n, channel] = own * sigmoid(z)
    first, second = made[:, : (channels + 1) // 2], made[:, (channels + 1) // 2 :]
    y = np.empty_like(x)
    y[:, 0::2], y[:, 1::2] = first, second
    return y


CASES = [
    Case("shuffle", partial(shuffle, groups=4), channels=(8,)),
    Case("shuffle", partial(shuffle, groups=1), channels=(1, 2, 3, 13)),
    Case("shuffle", partial(shuffle, groups=5), channels=(15,)),
    Case("shuffle", partial(shuffle, groups=64), channels=(256,), size=(3, 2)),
    Case("shuffle", partial(shuffle, groups=3), {"groups": 3}, (12, 15)),
    Case("shuffle", partial(shuffle, groups=6), {"groups": 6}, (6,)),
]
