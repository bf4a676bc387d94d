"""Corrupt images in four ways at five strengths, in the spirit of ImageNet-C.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, 2019. Sizes
are shares of the image, so that small and large images suffer alike; strength 0 is exactly the image.

| kind    | what is done, and what its level is                  |    1 |    2 |    3 |    4 |    5 |
|---------|------------------------------------------------------|------|------|------|------|------|
| noise   | Gaussian noise: σ, of the range from black to white  | 0.02 | 0.04 | 0.06 | 0.09 | 0.13 |
| blur    | Gaussian blur: σ, in thousandths of the shorter side |    8 |   12 |   18 |   24 |   32 |
| jpeg    | JPEG compression: its quality                        |   60 |   40 |   25 |   15 |    8 |
| clutter | patches of other images: how many                    |    2 |    4 |    6 |    9 |   12 |

A patch has 15 to 25 % of the image's sides and lies in the outer quarter: what is within the central half of both
sides stays free, and an object that is elsewhere may be hidden.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
from PIL import Image, ImageFilter

Dice = np.random.Generator

LEVELS: dict[str, tuple[float, ...]] = {
    "noise": (0.02, 0.04, 0.06, 0.09, 0.13),
    "blur": (0.008, 0.012, 0.018, 0.024, 0.032),
    "jpeg": (60, 40, 25, 15, 8),
    "clutter": (2, 4, 6, 9, 12),
}
KINDS = tuple(LEVELS)
STRENGTHS = (1, 2, 3, 4, 5)
PATCH = (0.15, 0.25)
FRAME = 0.25


def corrupt(
    image: Image.Image,
    kind: str,
    strength: int,
    key: Sequence[int],
    others: Sequence[Image.Image],
    seen: int | None = None,
) -> Image.Image:
    """Corrupt a grey or RGB image, the same way for the same key; `others` are what clutter is cut from.

    `seen` is the shorter side of what a network sees of it at once, where that is not all of it.
    """
    if strength == 0:
        return image
    dice = np.random.default_rng([*key, crc32(kind.encode()), strength])
    level = LEVELS[kind][strength - 1]
    if kind == "blur":
        return blur(image, level * (seen or min(image.size)))
    return _CORRUPTIONS[kind](image, level, dice, others)


def noise(image: Image.Image, level: float, dice: Dice) -> Image.Image:
    """Add Gaussian noise of this standard deviation, in shares of the range, to every value."""
    values = np.asarray(image, dtype=np.float64) / 255
    noisy = (values + level * dice.standard_normal(values.shape)).clip(0, 1)
    return Image.fromarray((255 * noisy + 0.5).astype(np.uint8))


def blur(image: Image.Image, deviation: float) -> Image.Image:
    """Blur by a Gaussian of this standard deviation in pixels."""
    return image.filter(ImageFilter.GaussianBlur(deviation))


def jpeg(image: Image.Image, level: float) -> Image.Image:
    """Compress and read again, at this quality."""
    file = io.BytesIO()
    image.save(file, "jpeg", quality=int(level))
    with Image.open(file) as read:
        read.load()
        return read


def clutter(image: Image.Image, level: float, dice: Dice, others: Sequence[Image.Image]) -> Image.Image:
    """Paste so many patches of other images of the same size around the central half of the image."""
    cluttered = image.copy()
    for _ in range(int(level)):
        other = others[int(dice.integers(len(others)))]
        width, height = (max(1, int(side * float(dice.uniform(*PATCH)))) for side in image.size)
        left, top = _place(dice, 0, other.width - width), _place(dice, 0, other.height - height)
        patch = other.crop((left, top, left + width, top + height))
        cluttered.paste(patch, _border(image.size, (width, height), dice))
    return cluttered


def _border(image: tuple[int, int], patch: tuple[int, int], dice: Dice) -> tuple[int, int]:
    """Choose where a patch goes: at one of the four edges, within the outer quarter."""
    across, near = int(dice.integers(2)), bool(dice.integers(2))
    place = [_place(dice, 0, side - own) for side, own in zip(image, patch, strict=True)]
    inset = _place(dice, 0, int(FRAME * image[across]) - patch[across])
    place[across] = inset if near else image[across] - patch[across] - inset
    return place[0], place[1]


def _place(dice: Dice, low: int, high: int) -> int:
    """Draw a whole number from low to high, both included; low where there is no room."""
    return int(dice.integers(low, max(low, high) + 1))


_CORRUPTIONS: dict[str, Callable[[Image.Image, float, Dice, Sequence[Image.Image]], Image.Image]] = {
    "noise": lambda image, level, dice, others: noise(image, level, dice),
    "jpeg": lambda image, level, dice, others: jpeg(image, level),
    "clutter": clutter,
}
