"""Crops to train on and wholes to measure on: a function of seed, epoch and draw, image and mask together."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from attn_surgeon.data.masks import IGNORED
from attn_surgeon.data.sampling import EpochImages
from attn_surgeon.data.segmentation_images import open_scene_splits, open_scenes
from attn_surgeon.data.splits import with_substitutes
from attn_surgeon.data.unreadable_images import listed
from attn_surgeon.errors import DataError

from .cells import RGB, SETTINGS, write


def drawn(root: Path, seed: int, epoch: int) -> list[tuple[Tensor, Tensor]]:
    data = EpochImages(open_scene_splits(str(root), RGB, SETTINGS), seed)
    return [data[(epoch, number)] for number in range(len(data))]


def test_images_are_normalised_and_masks_numbered(tmp_path: Path) -> None:
    root = write(tmp_path)
    image, mask = open_scene_splits(str(root), RGB, SETTINGS).val.dataset[1]
    pixels = np.asarray(Image.open(root / "val" / "images" / "1.png")).transpose(2, 0, 1)
    torch.testing.assert_close(image, torch.from_numpy((pixels / 255 - 0.5) / 0.25).float())
    assert mask.tolist() == np.asarray(Image.open(root / "val" / "masks" / "1.png")).tolist()


def test_crops_are_parts_of_image_and_mask_at_one_place(tmp_path: Path) -> None:
    root = write(tmp_path)
    scenes, kinds = open_scene_splits(str(root), RGB, SETTINGS).train.dataset, set()
    for number, (image, mask) in enumerate(drawn(root, 0, 0)):
        whole, labels = scenes[number // 2]
        places = {
            (y, x, flip)
            for y in range(9)
            for x in range(5)
            for flip in (False, True)
            if torch.equal(image.flip(-1) if flip else image, whole[:, y : y + 16, x : x + 16])
        }
        ((y, x, flip),) = places
        assert torch.equal(mask.flip(-1) if flip else mask, labels[y : y + 16, x : x + 16])
        kinds.add((y, x, flip))
    assert len(kinds) > 4
    assert {flip for _, _, flip in kinds} == {False, True}


def test_crops_are_decided_by_seed_epoch_and_draw(tmp_path: Path) -> None:
    root = write(tmp_path)
    first = [image for image, _ in drawn(root, 0, 1)]
    torch.manual_seed(5)
    assert all(map(torch.equal, first, [image for image, _ in drawn(root, 0, 1)]))
    assert not any(map(torch.equal, first, [image for image, _ in drawn(root, 0, 2)]))
    assert not any(map(torch.equal, first, [image for image, _ in drawn(root, 1, 1)]))


def test_small_images_are_filled_up_with_what_counts_for_nothing(tmp_path: Path) -> None:
    root = write(tmp_path, size=(12, 20))
    settings = replace(SETTINGS, augment=False)
    data = EpochImages(open_scene_splits(str(root), RGB, settings), 0)
    image, mask = data[(0, 0)]
    assert image.shape[1:] == mask.shape == (16, 16)
    assert bool((image[:, 12:] == 0).all())
    assert bool((mask[12:] == IGNORED).all())
    assert IGNORED not in mask[:12]


def test_an_epoch_sees_as_many_pixels_as_there_are(tmp_path: Path) -> None:
    root = write(tmp_path, size=(48, 32))
    parts = open_scene_splits(str(root), RGB, replace(SETTINGS, crops=None))
    assert parts.draws == tuple(index for index in range(4) for _ in range(6))
    assert open_scene_splits(str(root), RGB, replace(SETTINGS, crops=None, crop=48)).draws == (0, 1, 2, 3)
    assert len(parts.train.dataset) == 4  # type: ignore[arg-type]


def test_a_folder_without_parts_is_split(tmp_path: Path) -> None:
    root = write(tmp_path, ["."], count=10)
    parts = open_scene_splits(str(root), RGB, SETTINGS)
    assert [len(part.dataset) for part in (parts.train, parts.val)] == [9, 1]  # type: ignore[arg-type]
    assert "10% of it is held out" in parts.report.notes[0]
    parts = open_scene_splits(str(root), RGB, replace(SETTINGS, val_split=0.3))
    names = [[pair.image.name for pair in part.dataset.pairs] for part in (parts.train, parts.val)]  # type: ignore[attr-defined]
    assert [len(part) for part in names] == [7, 3]
    assert sorted(names[0] + names[1]) == [f"{number}.png" for number in range(10)]
    again = open_scene_splits(str(root), RGB, replace(SETTINGS, val_split=0.3)).val.dataset
    assert [pair.image.name for pair in again.pairs] == names[1]  # type: ignore[attr-defined]


def test_classes_have_the_names_of_classes_txt(tmp_path: Path) -> None:
    root = write(tmp_path)
    (root / "classes.txt").write_text("sky\n\n sea \nland\nair\n")
    assert open_scene_splits(str(root), RGB, SETTINGS).train.class_names == ("sky", "sea", "land", "air")
    (root / "classes.txt").write_text("sky\nsky\nsea")
    with pytest.raises(DataError, match="duplicate class name: sky"):
        open_scene_splits(str(root), RGB, SETTINGS)


def test_a_part_is_numbered_as_the_network_is(tmp_path: Path) -> None:
    root = write(tmp_path, classes=2)
    assert open_scenes(str(root), "val", RGB, ("a", "b", "c"), SETTINGS).class_names == ("a", "b", "c")
    (root / "classes.txt").write_text("sky\nsea\n")
    with pytest.raises(DataError, match="lists 2 classes, the network has 3"):
        open_scenes(str(root), "val", RGB, ("a", "b", "c"), SETTINGS)
    with pytest.raises(DataError, match="no split 'test'"):
        open_scenes(str(root), "test", RGB, ("a", "b"), SETTINGS)


def test_raises_for_a_validation_mask_of_the_ignore_index_only(tmp_path: Path) -> None:
    root = write(tmp_path)
    Image.new("L", (20, 24), 255).save(root / "val" / "masks" / "1.png")
    with pytest.raises(DataError, match=r"every pixel of this mask is ignored; .*1\.png"):
        open_scene_splits(str(root), RGB, SETTINGS)


def cut(path: Path) -> None:
    """Leave the head and some of the pixels of a file."""
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 3 // 4])


def test_images_and_masks_that_cannot_be_read_are_left_out_and_listed(tmp_path: Path) -> None:
    root, run = write(tmp_path / "cells"), tmp_path / "run"
    run.mkdir()
    bad = [root / "train" / "masks" / "1.png", root / "train" / "images" / "2.png", root / "val" / "images" / "3.png"]
    for path in bad:
        cut(path)
    with pytest.raises(DataError, match=r"2 of 4 images are unreadable, more than max_bad=0\.3 allows; .*masks/1"):
        open_scene_splits(str(root), RGB, replace(SETTINGS, max_bad=0.3))
    parts = with_substitutes(open_scene_splits(str(root), RGB, replace(SETTINGS, max_bad=0.5)), run, 0.5)
    assert [line.partition(": ")[0] for line in sorted(listed(run))] == sorted(map(str, bad))
    assert (parts.report.facts["train"]["images"], parts.report.facts["train"]["unreadable"]) == (2, 2)
    assert parts.report.notes[-1].startswith("unreadable images, left out: 3 (")
    left = [pair.image.name for pair in parts.val.dataset.pairs]  # type: ignore[attr-defined]
    assert left == ["0.png", "1.png", "2.png"]
    assert len(EpochImages(parts, 0)) == 4  # two crops of each that is left


def test_damage_that_shows_only_when_decoded_is_found_before_measuring_and_replaced_in_training(tmp_path: Path) -> None:
    root, run = write(tmp_path / "cells", size=(48, 48)), tmp_path / "run"
    run.mkdir()
    bad = [root / part / "images" / "1.jpg" for part in ("train", "val")]
    for path in bad:
        Image.open(path.with_suffix(".png")).save(path)
        path.with_suffix(".png").unlink()
        cut(path)
    parts = with_substitutes(
        open_scene_splits(str(root), RGB, replace(SETTINGS, max_bad=0.3, augment=False, crop=48)), run, 0.3
    )
    assert [error.where for error in parts.report.unreadable] == [str(bad[1])]
    found = [EpochImages(parts, 0)[(0, number)] for number in (2, 4, 0)]
    assert all(map(torch.equal, found[0], found[1]))
    assert not torch.equal(found[0][0], found[2][0])
    assert [line.partition(": ")[0] for line in sorted(listed(run))] == [str(path) for path in bad]


def test_images_trained_and_measured_on_are_found_by_their_bytes(tmp_path: Path) -> None:
    root = write(tmp_path)
    for folder in ("images", "masks"):
        shutil.copy(root / "train" / folder / "1.png", root / "val" / folder / "2.png")
    found = open_scene_splits(str(root), RGB, SETTINGS).report
    again = str(root / "val" / "images" / "2.png")
    assert found.facts["duplicates"] == {"count": 1, "first": [again]}
    assert f"validation images that are byte for byte among the training images: 1 ({again})" in found.notes
    with pytest.raises(DataError, match=r"byte for byte among the training images: 1; .*2\.png"):
        open_scene_splits(str(root), RGB, replace(SETTINGS, leaks="refuse"))


def test_classes_in_no_mask_or_only_in_those_of_one_part_are_named(tmp_path: Path) -> None:
    root = write(tmp_path, ["train"], classes=2)
    write(root, ["val"], classes=2, count=2, stored=lambda mask: np.where(mask == 1, 2, 255).astype(np.uint8))
    (root / "classes.txt").write_text("sky\nsea\nland\nair\n")
    found = open_scene_splits(str(root), RGB, replace(SETTINGS, crop=24)).report
    assert found.facts["train"]["empty_classes"] == ["land", "air"]
    assert found.facts["val"]["empty_classes"] == ["sky", "sea", "air"]
    assert "classes without training images: land, air" in found.notes
    assert "classes without validation images: sky, sea, air" in found.notes
    assert found.notes[-1].startswith("images smaller than 24×24, padded: 6 (")
    counts = [found.facts[part][most] for part in ("train", "val") for most in ("fewest_of_a_class", "most_of_a_class")]
    assert counts == [0, 4, 0, 2]
