"""Attention in windows, and of blocks to their surroundings, position by position."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import gcd

import numpy as np

from .arrays import dense, group_norm, softmax
from .case import Array, Case, Weights

Place = tuple[int, int]
Sees = Callable[[Place, Place], bool]


def attend(x: Array, w: Weights, heads: int, sees: Sees, qkv: Callable[..., list[Array]], bias: bool) -> Array:
    """Let each position look at those that it sees; channels come last."""
    parts, size = gcd(heads, 4), x.shape[3] // heads
    places = list(np.ndindex(*x.shape[1:3]))
    found = np.zeros_like(x)
    for n, head, here in ((n, head, here) for n in range(len(x)) for head in range(heads) for here in places):
        part, own = divmod(head, heads // parts)
        group = slice(own * size, (own + 1) * size)
        query, key, value = (each[n, :, :, group] for each in qkv(x, w, part))
        there = [place for place in places if sees(here, place)]
        scores = np.array([query[here] @ key[place] for place in there]) / np.sqrt(size)
        if bias:
            side = round(w[f"parts.{part}.table"].shape[1] ** 0.5)
            table = w[f"parts.{part}.table"][own].reshape(side, side)
            scores += [table[here[0] - row + side // 2, here[1] - column + side // 2] for row, column in there]
        mixed = sum(share * value[place] for share, place in zip(softmax(scores), there, strict=True))
        found[n][here][head * size : (head + 1) * size] = mixed
    return found


def together(x: Array, w: Weights, part: int) -> list[Array]:
    return np.split(dense(x, w, f"parts.{part}.qkv"), 3, -1)


def apart(x: Array, w: Weights, part: int) -> list[Array]:
    return [dense(x, w, f"parts.{part}.{name}") for name in ("query", "key", "value")]


def window(x: Array, w: Weights, factor: float, side: int = 7, start: int = 0, heads: int = 1) -> Array:
    def sees(here: Place, there: Place) -> bool:
        return all((one - start) // side == (other - start) // side for one, other in zip(here, there, strict=True))

    normal = np.moveaxis(group_norm(x, w, "norm"), 1, -1)
    return x + np.moveaxis(dense(attend(normal, w, heads, sees, together, True), w, "project"), -1, 1)


def halo(x: Array, w: Weights, factor: float, block: int = 8, around: int = 3, heads: int = 1) -> Array:
    def sees(here: Place, there: Place) -> bool:
        return all(
            one // block * block - around <= other < one // block * block + block + around
            for one, other in zip(here, there, strict=True)
        )

    normal = np.moveaxis(group_norm(x, w, "norm"), 1, -1)
    return x + np.moveaxis(dense(attend(normal, w, heads, sees, apart, False), w, "project"), -1, 1)


CASES = [
    Case("window", window, channels=(3, 13), size=(8, 9)),
    Case("window", partial(window, heads=2), channels=(64,), size=(3, 8)),
    Case("window", partial(window, side=3, heads=8), {"window": 3, "heads": 8}, (16,)),
    Case("window", partial(window, side=4, start=2, heads=6), {"window": 4, "heads": 6, "shift": True}, (12,)),
    Case("window", partial(window, side=7, start=3), {"shift": True}, (5,), (12, 4)),
    Case("window", partial(window, side=2, start=1), {"shift": True, "window": 2}, (5,), (1, 4)),
    Case("halo", partial(halo, heads=8), channels=(8,), size=(10, 4)),
    Case("halo", halo, channels=(13,), size=(9, 13)),
    Case("halo", partial(halo, block=2, around=1, heads=3), {"block": 2, "halo": 1, "heads": 3}, (6,)),
    Case("halo", partial(halo, block=2, around=3, heads=2), {"block": 2, "heads": 2}, (6,)),
    Case("halo", partial(halo, block=4, around=0, heads=4), {"block": 4, "halo": 0, "heads": 4}, (4,)),
    Case("halo", partial(halo, block=1, around=2, heads=5), {"block": 1, "halo": 2}, (5,), (4, 3)),
]
