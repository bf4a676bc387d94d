"""Draw digits on cluttered backgrounds, each picture determined by its key."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float64]

SIDES = (17, 27)
FRAGMENTS = (3, 5)
TRIES = 4


class KeyedRandom:
    """Draws random numbers from a generator of its own, seeded by a key."""

    def __init__(self, *key: int) -> None:
        self._random = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))

    def between(self, low: float, high: float) -> float:
        """Draw a number from [low, high)."""
        return low + (high - low) * float(self._random.random())

    def whole(self, low: int, high: int) -> int:
        """Draw a whole number from low to high, both included."""
        return int(self.between(low, high + 1))


@lru_cache(maxsize=128)
def _weights(inputs: int, outputs: int) -> Plane:
    """Return the (outputs, inputs) matrix of bilinear interpolation between pixel centres."""
    position = ((np.arange(outputs) + 0.5) * inputs / outputs - 0.5).clip(0, inputs - 1)
    weights: Plane = np.maximum(0.0, 1.0 - np.abs(position[:, None] - np.arange(inputs)))
    return weights


def resize(plane: Plane, height: int, width: int) -> Plane:
    """Enlarge a plane (H, W) bilinearly."""
    # einsum adds in a fixed order; that of a matrix product depends on the BLAS library
    rows = np.einsum("oh,hw->ow", _weights(plane.shape[0], height), plane)
    resized: Plane = np.einsum("hw,ow->ho", rows, _weights(plane.shape[1], width))
    return resized


def draw_scene(digit: Plane, others: NDArray[np.uint8], size: int, random: KeyedRandom) -> tuple[Plane, Plane]:
    """Return a picture (H, W) of the digit amid clutter, and the digit's coverage of each pixel (H, W)."""
    picture, ink, side = background(size, random), random.between(0.55, 1.0), random.whole(*SIDES)
    cover = place_randomly(resize(digit, side, side), size, random)
    picture = add_fragments(picture, others, cover, ink, random.whole(*FRAGMENTS), random)
    return paint(picture, cover, ink).clip(0.0, 1.0), cover


def background(size: int, random: KeyedRandom) -> Plane:
    """Draw a background of two gratings and a few blobs, darker than the ink."""
    y, x = np.mgrid[:size, :size] / size
    canvas = np.full((size, size), random.between(0.05, 0.3))
    for _ in range(2):
        angle, waves = random.between(0, np.pi), random.between(2, 9)
        wave = np.sin(2 * np.pi * (waves * (x * np.cos(angle) + y * np.sin(angle)) + random.between(0, 1)))
        canvas += random.between(0.02, 0.12) * wave
    for _ in range(random.whole(2, 4)):
        height, spread = random.between(-0.2, 0.25), random.between(0.05, 0.2)
        distance = (x - random.between(0, 1)) ** 2 + (y - random.between(0, 1)) ** 2
        canvas += height * np.exp(-distance / (2 * spread**2))
    return canvas.clip(0.0, 0.6)


def add_fragments(
    picture: Plane, others: NDArray[np.uint8], cover: Plane, ink: float, count: int, random: KeyedRandom
) -> Plane:
    """Paint pieces of other digits (N, 8, 8) over a picture, where they hide little of what is covered (H, W)."""
    for _ in range(count):
        other = others[random.whole(0, len(others) - 1)] / 16.0
        picture = paint(picture, _beside(_fragment(other, random), cover, random), ink * random.between(0.5, 0.9))
    return picture


def _fragment(other: Plane, random: KeyedRandom) -> Plane:
    """Cut a piece of a stroke out of another digit, padded so that its edges blur."""
    rows, columns = random.whole(3, 4), random.whole(3, 4)
    top, left = random.whole(0, 8 - rows), random.whole(1, 7 - columns)
    zoom = random.between(2.0, 3.0)
    piece = np.pad(other[top : top + rows, left : left + columns], 1)
    return resize(piece, round(zoom * (rows + 2)), round(zoom * (columns + 2)))


def _beside(piece: Plane, cover: Plane, random: KeyedRandom) -> Plane:
    """Place a piece where, of a few random places, it covers least of the digit's coverage (H, W)."""
    places = [place_randomly(piece, len(cover), random) for _ in range(TRIES)]
    return min(places, key=lambda one: float((one * cover).sum()))


def place_randomly(piece: Plane, size: int, random: KeyedRandom) -> Plane:
    """Place a piece at random on an empty canvas."""
    canvas = np.zeros((size, size))
    top, left = random.whole(0, size - piece.shape[0]), random.whole(0, size - piece.shape[1])
    canvas[top : top + piece.shape[0], left : left + piece.shape[1]] = piece
    return canvas


def paint(picture: Plane, cover: Plane, ink: float) -> Plane:
    """Blend ink into a picture by the coverage of each pixel."""
    return picture * (1.0 - cover) + ink * cover
