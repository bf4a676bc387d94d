"""Checks before training: invalid boxes are clipped or left out and named; unreadable images and leaks are found."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from attn_surgeon.data.boxes.annotations import in_columns
from attn_surgeon.data.boxes.checks import inspect_boxes
from attn_surgeon.data.splits import with_substitutes
from attn_surgeon.data.unreadable_images import listed
from attn_surgeon.errors import DataError

from .files import CLASSES, SIZE, Box, drawn, images, splits, write_coco, write_voc
from .test_formats import boxes_of, opened

GOOD: Box = (2, 4, 14, 20, 0)


@pytest.mark.parametrize(
    ("box", "left", "problem"),
    [
        ((-8, 4, 14, 20, 0), (0, 4, 14, 20, 0), "boxes that reach beyond the image, clipped: 1 (a.png)"),
        ((40, 30, 90, 90, 1), (40, 30, *SIZE, 1), "boxes that reach beyond the image, clipped: 1 (a.png)"),
        ((-0.5, 4, 14, 20, 0), (0, 4, 14, 20, 0), None),
        ((60, 4, 70, 20, 0), None, "boxes without an area in the image, left out: 1 (a.png)"),
        ((4, 4, 4, 20, 0), None, "boxes without an area in the image, left out: 1 (a.png)"),
        ((14, 4, 2, 20, 0), None, "boxes whose corners are swapped, left out: 1 (a.png)"),
        ((math.nan, 4, 2, 20, 0), None, "boxes with numbers that are not finite, left out: 1 (a.png)"),
        ((2, 4, math.inf, 20, 0), None, "boxes with numbers that are not finite, left out: 1 (a.png)"),
    ],
)
def test_invalid_boxes_are_clipped_or_left_out_and_named(
    box: Box, left: Box | None, problem: str | None, tmp_path: Path
) -> None:
    images(tmp_path, {"a": [GOOD], "b": [GOOD]})
    rows: list[Sequence[float]] = [(0, *box, 0), (0, *GOOD, 0), (1, *GOOD, 0)]
    found = inspect_boxes(in_columns([tmp_path / "a.png", tmp_path / "b.png"], CLASSES, rows), decode=False, max_bad=0)
    kept = np.column_stack([found.annotations.boxes, found.annotations.labels]).tolist()
    assert kept == [list(own) for own in ((left, GOOD, GOOD) if left is not None else (GOOD, GOOD))]
    assert found.annotations.owners.tolist() == ([0, 0, 1] if left is not None else [0, 1])
    assert list(found.notes) == ([] if problem is None else [problem])


def test_the_first_of_many_are_named(tmp_path: Path) -> None:
    names = [f"{index}" for index in range(9)]
    images(tmp_path, {name: [GOOD] for name in names})
    rows = [(index, 9, 9, 9, 9, 0, 0) for index in range(9)]
    found = inspect_boxes(
        in_columns([tmp_path / f"{name}.png" for name in names], CLASSES, rows), decode=True, max_bad=0
    )
    (note,) = found.notes
    assert note.endswith("left out: 9 (0.png, 1.png, 2.png, 3.png, 4.png and 4 more)")


def test_unreadable_images_are_left_out_or_refused(tmp_path: Path) -> None:
    root = write_voc(tmp_path / "data", splits(train=4, val=4))
    (root / "val" / "images" / "v2.png").write_bytes(b"no image")
    with pytest.raises(DataError, match=r"1 of 4 images are unreadable, more than max_bad=0\.01 allows"):
        opened(root)
    found = opened(root, max_bad=0.3)
    assert list(boxes_of(found.val)) == ["v0", "v1", "v3"]
    assert boxes_of(found.val)["v3"] == splits(val=4)["val"]["v3"]
    assert "unreadable images, left out: 1" in " ".join(found.report.notes)
    # the header of this one is whole, so it is found in training, and replaced
    file = root / "train" / "images" / "t1.png"
    file.write_bytes(file.read_bytes()[:120])
    run = tmp_path / "run"
    run.mkdir()
    train = with_substitutes(opened(root, max_bad=0.3), run, 0.3).train.dataset
    assert train[1][1].boxes.tolist() == [list(map(float, box[:4])) for box in drawn(2)]
    assert any("t1.png" in line for line in listed(run))


def test_images_in_both_splits_are_found(tmp_path: Path) -> None:
    root = write_voc(tmp_path, splits())
    shutil.copy(root / "train" / "images" / "t0.png", root / "val" / "images" / "v1.png")
    assert "byte for byte among the training images: 1" in " ".join(opened(root).report.notes)
    with pytest.raises(DataError, match="byte for byte"):
        opened(root, leaks="refuse")


def test_classes_without_boxes_are_named_and_unknown_ones_refused(tmp_path: Path) -> None:
    data = splits()
    data["val"] = {name: [box for box in own if box[4] == 0] for name, own in data["val"].items()}
    found = opened(write_voc(tmp_path / "a", data))
    assert found.val.class_names == CLASSES
    assert "classes without validation images: rod" in found.report.notes
    with pytest.raises(DataError, match="no training images of class rod"):
        opened(write_voc(tmp_path / "b", {"train": data["val"], "val": data["train"]}))


def test_a_class_in_the_list_needs_no_box(tmp_path: Path) -> None:
    root = write_coco(tmp_path, splits())
    for split in ("train", "val"):
        file = root / "annotations" / f"instances_{split}2017.json"
        document = json.loads(file.read_text())
        document["categories"].append({"id": 5, "name": "none of it"})
        file.write_text(json.dumps(document))
    found = opened(root)
    assert found.train.class_names == ("cell", "none of it", "rod")
    assert found.report.facts["train"]["empty_classes"] == ["none of it"]
    assert boxes_of(found.val)["v0"] == [(*box[:4], 2 * box[4]) for box in splits()["val"]["v0"]]


def test_images_without_any_valid_box_are_refused(tmp_path: Path) -> None:
    root = write_voc(tmp_path, {"train": {"t0": [(9, 9, 9, 9, 0)]}, "val": {"v0": [GOOD]}})
    with pytest.raises(DataError, match="there is no valid box in these images"):
        opened(root)
    root = write_voc(tmp_path / "b", splits())
    for file in (root / "val" / "annotations").iterdir():
        file.write_text(file.read_text().replace("</name>", "</name><difficult>1</difficult>"))
    with pytest.raises(DataError, match="there is no valid box in these images"):
        opened(root)
