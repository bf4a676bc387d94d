"""Outlook attention, window by window."""

from __future__ import annotations

from functools import partial
from math import gcd

import numpy as np

from .arrays import dense, group_norm, softmax
from .case import Array, Case, Weights


def outlook(x: Array, w: Weights, factor: float, side: int = 3, heads: int = 1) -> Array:
    normal = np.moveaxis(group_norm(x, w, "norm"), 1, -1)
    parts, size, around = gcd(heads, 8), x.shape[1] // heads, side // 2
    folded = np.zeros(normal.shape)
    for image, head, row, column in np.ndindex(len(x), heads, *x.shape[2:]):
        part, own = divmod(head, heads // parts)
        value = dense(normal[image], w, f"parts.{part}.value")[:, :, own * size : (own + 1) * size]
        logits = dense(normal[image, row, column], w, f"parts.{part}.weigh").reshape(-1, side**2, side**2)[own]
        places = [(row + up, column + left) for up, left in np.ndindex(side, side)]
        places = [(up - around, left - around) for up, left in places]
        window = np.stack([value[place] if on_map(place, x) else np.zeros(size) for place in places])
        for place, says in zip(places, softmax(logits / np.sqrt(size)) @ window, strict=True):
            if on_map(place, x):
                folded[image][place][head * size : (head + 1) * size] += says
    return x + np.moveaxis(dense(folded, w, "project"), -1, 1)


def on_map(place: tuple[int, int], x: Array) -> bool:
    return place in np.ndindex(*x.shape[2:])


CASES = [
    Case("outlook", outlook, channels=(5, 13), size=(4, 5)),
    Case("outlook", partial(outlook, heads=2), channels=(64,), size=(3, 4)),
    Case("outlook", partial(outlook, heads=6), {"heads": 6}, (12,), (4, 3)),
    Case("outlook", partial(outlook, side=5, heads=2), {"heads": 2, "kernel_size": 5}, (4,), (3, 7)),
]
