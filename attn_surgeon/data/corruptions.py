"""Image corruptions of four kinds at five strengths, after ImageNet-C.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, 2019. Sizes
are relative to the image, so that small and large images are corrupted alike; strength 0 is the image itself.

| kind    | corruption, and what its level is                    |    1 |    2 |    3 |    4 |    5 |
|---------|------------------------------------------------------|------|------|------|------|------|
| noise   | Gaussian noise: σ, of the range from black to white  | 0.02 | 0.04 | 0.06 | 0.09 | 0.13 |
| blur    | Gaussian blur: σ, in thousandths of the shorter side |    8 |   12 |   18 |   24 |   32 |
| jpeg    | JPEG compression: its quality                        |   60 |   40 |   25 |   15 |    8 |
| clutter | patches of other images: how many                    |    2 |    4 |    6 |    9 |   12 |

A patch has 15 to 25 % of the image's sides and lies in the outer quarter: the central half of both sides stays free,
and an object elsewhere may be hidden.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from zlib import crc32

import numpy as np
from PIL import Image, ImageFilter

Generator = np.random.Generator

LEVELS: dict[str, tuple[float, ...]] = {
    "noise": (0.02, 0.04, 0.06, 0.09, 0.13),
    "blur": (0.008, 0.012, 0.018, 0.024, 0.032),
    "jpeg": (60, 40, 25, 15, 8),
    "clutter": (2, 4, 6, 9, 12),
}
CORRUPTION_KINDS = tuple(LEVELS)
STRENGTHS = (1, 2, 3, 4, 5)
PATCH = (0.15, 0.25)
FRAME = 0.25


def corrupt(
    image: Image.Image,
    kind: str,
    strength: int,
    key: Sequence[int],
    others: Sequence[Image.Image],
    visible: int | None = None,
) -> Image.Image:
    """Return a grey or RGB image corrupted, the same way for the same key.

    Args:
        image: the image.
        kind: one of CORRUPTION_KINDS.
        strength: 0 to 5.
        key: numbers that seed the random draws.
        others: images of the same size that clutter is cut from.
        visible: the shorter side of the window in which a network sees the image, where that is not all of it.
    """
    if strength == 0:
        return image
    generator = np.random.default_rng([*key, crc32(kind.encode()), strength])
    level = LEVELS[kind][strength - 1]
    if kind == "blur":
        return blur(image, level * (visible or min(image.size)))
    return _CORRUPTIONS[kind](image, level, generator, others)


def noise(image: Image.Image, level: float, generator: Generator) -> Image.Image:
    """Add Gaussian noise; its standard deviation is relative to the range from black to white."""
    values = np.asarray(image, dtype=np.float64) / 255
    noisy = (values + level * generator.standard_normal(values.shape)).clip(0, 1)
    return Image.fromarray((255 * noisy + 0.5).astype(np.uint8))


def blur(image: Image.Image, deviation: float) -> Image.Image:
    """Blur by a Gaussian, its standard deviation in pixels."""
    return image.filter(ImageFilter.GaussianBlur(deviation))


def jpeg(image: Image.Image, level: float) -> Image.Image:
    """Compress as JPEG at this quality."""
    file = io.BytesIO()
    image.save(file, "jpeg", quality=int(level))
    with Image.open(file) as read:
        read.load()
        return read


def clutter(image: Image.Image, level: float, generator: Generator, others: Sequence[Image.Image]) -> Image.Image:
    """Paste patches of other images of the same size around the central half of the image."""
    cluttered = image.copy()
    for _ in range(int(level)):
        other = others[int(generator.integers(len(others)))]
        width, height = (max(1, int(side * float(generator.uniform(*PATCH)))) for side in image.size)
        left, top = _place(generator, 0, other.width - width), _place(generator, 0, other.height - height)
        patch = other.crop((left, top, left + width, top + height))
        cluttered.paste(patch, _border(image.size, (width, height), generator))
    return cluttered


def _border(image: tuple[int, int], patch: tuple[int, int], generator: Generator) -> tuple[int, int]:
    """Draw the corner of a patch at one of the four edges, within the outer quarter."""
    across, near = int(generator.integers(2)), bool(generator.integers(2))
    place = [_place(generator, 0, side - own) for side, own in zip(image, patch, strict=True)]
    inset = _place(generator, 0, int(FRAME * image[across]) - patch[across])
    place[across] = inset if near else image[across] - patch[across] - inset
    return place[0], place[1]


def _place(generator: Generator, low: int, high: int) -> int:
    """Draw an integer from low to high, both included; low where high is below it."""
    return int(generator.integers(low, max(low, high) + 1))


_CORRUPTIONS: dict[str, Callable[[Image.Image, float, Generator, Sequence[Image.Image]], Image.Image]] = {
    "noise": lambda image, level, generator, others: noise(image, level, generator),
    "jpeg": lambda image, level, generator, others: jpeg(image, level),
    "clutter": clutter,
}
