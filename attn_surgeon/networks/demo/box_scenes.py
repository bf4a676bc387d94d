"""Draw images of several digits with their boxes (`demo-boxes`), each determined by its split and number alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attn_surgeon.networks.demo.clutter import (
    KeyedRandom,
    Plane,
    add_fragments,
    background,
    paint,
    place_randomly,
    resize,
)
from attn_surgeon.networks.demo.digits import SEED, SPLITS, digits_of

DEMO_BOXES = "demo-boxes"
SCENE_SIDE = 64
SCENES = {"train": 400, "val": 100}  # the number of images of each split
DIGIT_SIDES = (14, 28)
MOST_DIGITS = 4
PIECES = (4, 8)
PLACES = 8  # the number of places tried for a digit, of which the one that overlaps least with others is taken
OVERLAP = 0.02  # the largest mean overlap of a digit with those before it
INKED = 0.25  # the coverage from which a pixel belongs to a digit


@dataclass(frozen=True)
class Scene:
    """An image of digits.

    Args:
        pixels: (H, W) uint8.
        boxes: (K, 4) float64, x1 y1 x2 y2 in pixels, around the ink of each digit.
        labels: (K,) int64, the digits.
    """

    pixels: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]


def draw_digits(split: str, index: int, *, cluttered: bool = True) -> Scene:
    """Return an image of up to four digits of a split; one image in 16 has none.

    Args:
        split: `train` or `val`.
        index: the number of the image.
        cluttered: whether the background is textured, with pieces of other digits on it.

    >>> draw_digits("val", 3).boxes.shape
    (3, 4)
    """
    random = KeyedRandom(SEED, SPLITS.index(split), index, int(cluttered))
    images, labels = digits_of(split)
    picture, ink = background(SCENE_SIDE, random), random.between(0.55, 1.0)
    covers: list[Plane] = []
    found: list[int] = []
    for _ in range(random.whole(1, MOST_DIGITS) if random.between(0, 16) >= 1 else 0):
        chosen = random.whole(0, len(labels) - 1)
        cover = _beside_others(images[chosen] / 16.0, covers, random)
        if not covers or float((cover * sum(covers)).mean()) <= OVERLAP * float(cover.mean()):
            covers, found = [*covers, cover], [*found, int(labels[chosen])]
    covered = np.sum([np.zeros((SCENE_SIDE, SCENE_SIDE)), *covers], axis=0)
    pieces = random.whole(*PIECES)
    picture = add_fragments(picture, images, covered, ink, pieces, random) if cluttered else 0 * picture
    for cover in covers:
        picture = paint(picture, cover, ink)
    boxes = np.array([_box(cover) for cover in covers], dtype=np.float64).reshape(-1, 4)
    return Scene((picture.clip(0.0, 1.0) * 255.0 + 0.5).astype(np.uint8), boxes, np.array(found, dtype=np.int64))


def _beside_others(digit: Plane, covers: list[Plane], random: KeyedRandom) -> Plane:
    """Return the coverage (H, W) of a digit of a random size, where it overlaps least with others."""
    side = random.whole(*DIGIT_SIDES)
    scaled = resize(digit, side, side)
    tried = [place_randomly(scaled, SCENE_SIDE, random) for _ in range(PLACES)]
    return min(tried, key=lambda cover: sum(float((cover * other).sum()) for other in covers))


def _box(cover: Plane) -> tuple[int, int, int, int]:
    """Return the x1 y1 x2 y2 of what is inked of a coverage (H, W)."""
    rows, columns = np.flatnonzero((cover >= INKED).any(1)), np.flatnonzero((cover >= INKED).any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
