"""The packaged digits: the same bits every time, split fairly, with masks that fit."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch

from attn_surgeon.errors import DataError
from attn_surgeon.networks.demo import CLASS_NAMES, DEMO_DATASETS, DEMO_PREPROCESSING, MEAN, STD, digits
from attn_surgeon.networks.demo.digits import DIGITS, Digits

CLUTTER = "432511a29506bb783550c286cc92d380b53527e076b3aab378dbb9959df57de7"


def opened(task: str, split: str = "val", **options: Any) -> Digits:
    """Open a task as the class behind it."""
    dataset = digits(task, split, **options)
    assert isinstance(dataset, Digits)
    return dataset


def pixels(image: torch.Tensor) -> bytes:
    """Return an image's bytes."""
    return (image * 255).round().byte().numpy().tobytes()


def test_cluttered_items_are_these_very_bits() -> None:
    dataset, digest = opened("demo-clutter"), hashlib.sha256()
    for index in (0, 1, 540, 1077):
        digest.update(pixels(dataset[index][0]))
    assert digest.hexdigest() == CLUTTER


def masked(task: str, count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the first images (1, H, W) of a task and their masks (H, W)."""
    dataset: Any = opened(task, masks=True)
    return [(dataset[index][0], dataset[index][2]) for index in range(count)]


def numpy_state() -> Any:
    """Return the words of NumPy's global generator."""
    state: Any = np.random.get_state()
    return state[1]


@pytest.mark.parametrize("task", DEMO_DATASETS)
def test_no_global_generator_is_read_or_moved(task: str) -> None:
    dataset = opened(task)
    first = pixels(dataset[3][0])
    torch.manual_seed(7)
    np.random.seed(7)
    random.seed(7)
    before = (torch.get_rng_state(), numpy_state(), random.getstate())
    assert pixels(dataset[3][0]) == first
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(numpy_state(), before[1])
    assert random.getstate() == before[2]


def test_order_of_access_does_not_matter() -> None:
    forth, back = opened("demo-clutter"), opened("demo-clutter")
    ahead = [pixels(forth[index][0]) for index in range(4)]
    assert [pixels(back[index][0]) for index in (3, 2, 1, 0)] == ahead[::-1]


def test_the_split_is_stratified_and_covers_all_digits_once() -> None:
    with np.load(DIGITS) as packed:
        images, labels = packed["images"], packed["labels"]
    assert images.shape == (1797, 8, 8)
    assert images.max() == 16
    train, val = opened("demo", "train"), opened("demo", "val")
    assert (len(train), len(val)) == (1258, 539)
    counts, held = Counter(labels.tolist()), Counter(val.labels)
    assert all(held[label] == round(0.3 * counts[label]) for label in range(len(CLASS_NAMES)))
    assert sorted(train.labels + val.labels) == sorted(labels.tolist())


def test_no_digit_is_in_both_splits() -> None:
    shown = [{pixels(d[i][0]) for i in range(len(d))} for d in (opened("demo", "train"), opened("demo"))]
    assert not shown[0] & shown[1]


def test_clean_digits_are_interpolated_between_pixel_centres() -> None:
    dataset = opened("demo")
    with np.load(DIGITS) as packed:
        source = packed["images"][packed["val"]][5]
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(source / 16.0)[None, None], (32, 32), mode="bilinear", align_corners=False
    )[0]
    assert torch.allclose(dataset[5][0].double(), expected, rtol=0, atol=0.5 / 255 + 1e-6)


def test_masks_mark_where_the_clean_digit_is_inked() -> None:
    for image, mask in masked("demo", 50):
        assert mask.dtype == torch.bool
        # The image is rounded to 1/255, which may tip the pixels right at a half.
        clear = (image[0] - 0.5).abs() > 1 / 255
        assert torch.equal(mask[clear], image[0][clear] > 0.5)


def test_masks_lie_on_the_cluttered_digit() -> None:
    inside, outside = [], []
    for image, mask in masked("demo-clutter", 200):
        assert 20 <= int(mask.sum()) <= 500
        inside.append(float(image[0][mask].mean()))
        outside.append(float(image[0][~mask].mean()))
    # Ink is brighter than its surroundings in nearly every picture, by a wide margin on average.
    assert np.mean(np.array(inside) > np.array(outside)) > 0.99
    assert np.mean(inside) - np.mean(outside) > 0.3


def test_masks_do_not_change_the_images() -> None:
    with_masks, without = opened("demo-clutter", masks=True), opened("demo-clutter")
    assert torch.equal(with_masks[11][0], without[11][0])
    assert with_masks[11][1] == without[11][1]


def test_the_copies_of_a_digit_differ_in_their_clutter() -> None:
    dataset = opened("demo-clutter")
    assert len(dataset) == 2 * 539
    assert dataset.labels[0] == dataset.labels[539]
    assert pixels(dataset[0][0]) != pixels(dataset[539][0])


def test_the_transform_normalises_the_same_pixels() -> None:
    plain, normal = opened("demo"), opened("demo", transform=DEMO_PREPROCESSING.transform())
    expected = (plain[0][0] - MEAN[0]) / STD[0]
    assert torch.allclose(normal[0][0], expected, rtol=0, atol=1e-6)


def test_the_constants_are_those_of_the_training_images() -> None:
    dataset = opened("demo", "train")
    images = torch.stack([dataset[index][0] for index in range(len(dataset))]).double()
    assert float(images.mean()) == pytest.approx(MEAN[0], abs=1e-3)
    assert float(images.std()) == pytest.approx(STD[0], abs=1e-3)


def test_indices_count_from_the_end_too_and_stop_there() -> None:
    dataset = opened("demo")
    assert torch.equal(dataset[-1][0], dataset[538][0])
    with pytest.raises(IndexError):
        dataset[539]


def test_unknown_tasks_and_splits_are_named() -> None:
    with pytest.raises(DataError, match=r"'demo-cluter'.*did you mean demo-clutter"):
        digits("demo-cluter", "val")
    with pytest.raises(DataError, match="no split 'test'; demo; there are train and val"):
        digits("demo", "test")
