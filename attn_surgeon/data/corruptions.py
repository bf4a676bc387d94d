"""Corrupt images in four ways at five strengths, after ImageNet-C.

Hendrycks and Dietterich, Benchmarking Neural Network Robustness to Common Corruptions and Perturbations, 2019. Sizes
are relative to the image, so that small and large images are corrupted alike; strength 0 is the clean image.

| kind    | corruption, and the unit of its level                |    1 |    2 |    3 |    4 |    5 |
|---------|------------------------------------------------------|------|------|------|------|------|
| noise   | Gaussian noise: σ, of the range from black to white  | 0.02 | 0.04 | 0.06 | 0.09 | 0.13 |
| blur    | Gaussian blur: σ, in thousandths of the shorter side |    8 |   12 |   18 |   24 |   32 |
| jpeg    | JPEG compression: its quality                        |   60 |   40 |   25 |   15 |    8 |
| clutter | patches of other images: their number                |    2 |    4 |    6 |    9 |   12 |

The sides of a patch are 15 to 25 % of the image's. Patches lie in the outer quarter: the central half of both sides is
never covered, but an object elsewhere may be.
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
    """Return a corrupted grey or RGB image, the same one for the same key.

    Args:
        image: the image.
        kind: one of CORRUPTION_KINDS.
        strength: 0 to 5.
        key: numbers that seed the random draws.
        others: images of the same size, from which clutter is cut.
        visible: the shorter side of the network's input, where that is a window of the image.
    """
    if strength == 0:
        return image
    generator = np.random.default_rng([*key, crc32(kind.encode()), strength])
    level = LEVELS[kind][strength - 1]
    if kind == "blur":
        return blur(image, level * (visible or min(image.size)))
    return _CORRUPTIONS[kind](image, level, generator, others)


def noise(image: Image.Image, level: float, generator: Generator) -> Image.Image:
    """Return an image with Gaussian noise, whose standard deviation is relative to the range from black to white."""
    values = np.asarray(image, dtype=np.float64) / 255
    noisy = (values + level * generator.standard_normal(values.shape)).clip(0, 1)
    return Image.fromarray((255 * noisy + 0.5).astype(np.uint8))


def blur(image: Image.Image, deviation: float) -> Image.Image:
    """Return an image blurred by a Gaussian, whose standard deviation is in pixels."""
    return image.filter(ImageFilter.GaussianBlur(deviation))


def jpeg(image: Image.Image, level: float) -> Image.Image:
    """Return an image after JPEG compression at a quality."""
    file = io.BytesIO()
    image.save(file, "jpeg", quality=int(level))
    with Image.open(file) as read:
        read.load()
        return read


def clutter(image: Image.Image, level: float, generator: Generator, others: Sequence[Image.Image]) -> Image.Image:
    """Return an image with patches of other images of the same size around its central half."""
    cluttered = image.copy()
    for _ in range(int(level)):
        other = others[int(generator.integers(len(others)))]
        width, height = (max(1, int(side * float(generator.uniform(*PATCH)))) for side in image.size)
        left, top = _draw(generator, 0, other.width - width), _draw(generator, 0, other.height - height)
        patch = other.crop((left, top, left + width, top + height))
        cluttered.paste(patch, _border(image.size, (width, height), generator))
    return cluttered


def _border(image: tuple[int, int], patch: tuple[int, int], generator: Generator) -> tuple[int, int]:
    """Return a random position (left, top) of a patch at one of the four edges, within the outer quarter."""
    axis, at_start = int(generator.integers(2)), bool(generator.integers(2))
    position = [_draw(generator, 0, side - length) for side, length in zip(image, patch, strict=True)]
    inset = _draw(generator, 0, int(FRAME * image[axis]) - patch[axis])
    position[axis] = inset if at_start else image[axis] - patch[axis] - inset
    return position[0], position[1]


def _draw(generator: Generator, low: int, high: int) -> int:
    """Return a random integer from low to high inclusive, or low where high is less."""
    return int(generator.integers(low, max(low, high) + 1))


_CORRUPTIONS: dict[str, Callable[[Image.Image, float, Generator, Sequence[Image.Image]], Image.Image]] = {
    "noise": lambda image, level, generator, others: noise(image, level, generator),
    "jpeg": lambda image, level, generator, others: jpeg(image, level),
    "clutter": clutter,
}
