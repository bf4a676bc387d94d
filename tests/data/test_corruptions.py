"""Corruptions: exactly the image at strength 0, the same for the same key, and as strong as their table says."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from attn_surgeon.data.corruptions import CORRUPTION_KINDS, LEVELS, STRENGTHS, clutter, corrupt, noise

SIZE = (48, 40)  # width and height
MODES = ("L", "RGB")


def picture(mode: str = "RGB", seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """Draw a picture with large shapes and fine grain."""
    dice = np.random.default_rng(seed)
    small = Image.fromarray(dice.integers(60, 196, (6, 6, 3), dtype=np.uint8))
    shapes = np.asarray(small.resize(size, Image.Resampling.BICUBIC))
    return Image.fromarray(shapes // 2 + dice.integers(0, 100, shapes.shape, dtype=np.uint8)).convert(mode)


OTHERS = [Image.new("RGB", SIZE, colour) for colour in ("red", "lime")]


def values(image: Image.Image) -> NDArray[np.float64]:
    return np.asarray(image, dtype=np.float64) / 255


def made(kind: str, strength: int, *key: int, mode: str = "RGB") -> Image.Image:
    return corrupt(picture(mode), kind, strength, key, [other.convert(mode) for other in OTHERS])


def test_every_kind_has_a_level_for_every_strength() -> None:
    assert CORRUPTION_KINDS == ("noise", "blur", "jpeg", "clutter")
    assert all(len(levels) == len(STRENGTHS) for levels in LEVELS.values())


@pytest.mark.parametrize(("kind", "mode"), list(itertools.product(CORRUPTION_KINDS, MODES)))
def test_strengths_rise_from_exactly_the_image(kind: str, mode: str) -> None:
    image = picture(mode)
    assert corrupt(image, kind, 0, (0, 0), OTHERS).tobytes() == image.tobytes()
    found = [made(kind, strength, 0, 0, mode=mode) for strength in STRENGTHS]
    assert all((one.mode, one.size) == (mode, SIZE) for one in found)
    damage = [float(np.abs(values(one) - values(image)).mean()) for one in found]
    assert 0 < damage[0] < damage[2] < damage[4]
    assert image.tobytes() == picture(mode).tobytes()


@pytest.mark.parametrize("kind", ["noise", "clutter"])
def test_draws_follow_the_key_and_nothing_else(kind: str) -> None:
    np.random.seed(1)
    first = made(kind, 3, 0, 7).tobytes()
    np.random.seed(2)
    assert made(kind, 3, 0, 7).tobytes() == first
    assert len({first, made(kind, 3, 1, 7).tobytes(), made(kind, 3, 0, 8).tobytes()}) == 3
    steps = [values(made("noise", strength, 0, 7)) - values(picture()) for strength in (1, 2)]
    assert abs(np.corrcoef(steps[0].ravel(), steps[1].ravel())[0, 1]) < 0.1  # no strength is another one's, scaled


@pytest.mark.parametrize("level", LEVELS["noise"])
def test_noise_has_its_deviation(level: float) -> None:
    grey = Image.new("RGB", (200, 200), (128, 128, 128))
    found = values(noise(grey, level, np.random.default_rng(0))) - 128 / 255
    assert found.std() == pytest.approx(level, rel=0.02)
    assert abs(found.mean()) < 0.001


def test_blur_spreads_a_point_by_the_standard_deviation_of_its_level() -> None:
    dot = np.zeros((224, 448), dtype=np.uint8)
    dot[110:115, 222:227] = 255
    sides = [(None, 224), (None, 224), (None, 224), (None, 224), (None, 224), (150, 150)]
    for strength, (seen, side) in zip((*STRENGTHS, 5), sides, strict=True):
        level = LEVELS["blur"][strength - 1]
        found = values(corrupt(Image.fromarray(dot), "blur", strength, (0, 0), [], seen)).sum(0)
        place = np.arange(448) - 224
        spread = (found * place**2).sum() / found.sum() - 2.0  # less the variance of the five pixels themselves
        assert np.sqrt(spread) == pytest.approx(level * side, rel=0.05)


def test_jpeg_is_a_file_of_its_quality() -> None:
    for strength, quality in zip(STRENGTHS, LEVELS["jpeg"], strict=True):
        file = io.BytesIO()
        picture().save(file, "jpeg", quality=int(quality))
        assert made("jpeg", strength, 0, 0).tobytes() == Image.open(file).convert("RGB").tobytes()


@pytest.mark.parametrize("size", [(48, 40), (30, 33), (5, 4), (1, 1)])
def test_clutter_leaves_the_central_half_and_shows_others(size: tuple[int, int]) -> None:
    image, others = picture(size=size), [other.resize(size) for other in OTHERS]
    patches = int(LEVELS["clutter"][4])
    found = [np.asarray(clutter(image, patches, np.random.default_rng(seed), others)) for seed in range(20)]
    changed = [(one != np.asarray(image)).any(2) for one in found]
    for one, where in zip(found, changed, strict=True):
        assert {tuple(pixel) for pixel in one[where].tolist()} <= {(255, 0, 0), (0, 255, 0)}
    if min(size) < 8:
        return
    height, width = changed[0].shape
    inner = [where[height // 4 : -(height // 4), width // 4 : -(width // 4)] for where in changed]
    assert not any(one.any() for one in inner)
    touched = np.mean(changed, axis=0)
    assert min(touched[0].max(), touched[-1].max(), touched[:, 0].max(), touched[:, -1].max()) > 0
    assert 0.2 < np.mean(changed) < 0.5
