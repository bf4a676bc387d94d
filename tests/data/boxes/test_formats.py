"""Each format of boxes gives the same images, boxes and classes; what is wrong in a file is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_surgeon.data.boxes.dataset import BoxImages
from attn_surgeon.data.boxes.opening import box_splits, open_box_splits
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.tasks import infer_task
from attn_surgeon.tasks.settings import TaskSettings

from .files import (
    CLASSES,
    coco_document,
    images,
    picture,
    splits,
    write_coco,
    write_devkit,
    write_voc,
    write_xml,
    write_yolo,
)

RAW = Preprocessing((0.0,) * 3, (1.0,) * 3, (32, 32))
SETTINGS = TaskSettings(task="detection")
WRITERS: dict[str, Callable[..., Path]] = {
    "voc": write_voc,
    "devkit": write_devkit,
    "coco": write_coco,
    "roboflow": partial(write_coco, roboflow=True),
    "yolo": write_yolo,
    "yolo with a mapping": partial(write_yolo, names="{0: cell, 1: rod}"),
}


def opened(root: Path, **settings: Any) -> Splits:
    return open_box_splits(str(root), RAW, TaskSettings(task="detection", **settings))


def boxes_of(data: Any) -> dict[str, list[tuple[float, ...]]]:
    """List the boxes of each image of a dataset, with their class numbers, by the image's name."""
    dataset: BoxImages = data.dataset
    found = {}
    for index in range(len(dataset)):
        truth = dataset.truth(index)
        rows = torch.cat([truth.boxes, truth.labels[:, None].float()], 1)
        found[Path(dataset.annotations.images[index].name).stem] = [
            tuple(round(side, 3) for side in row) for row in rows.tolist()
        ]
    return found


@pytest.mark.parametrize("kind", WRITERS)
def test_every_format_has_the_same_boxes(kind: str, tmp_path: Path) -> None:
    data = splits()
    root = WRITERS[kind](tmp_path, data)
    assert infer_task(str(root)) == "detection"
    found = opened(root)
    assert found.train.class_names == found.val.class_names == CLASSES
    for split, own in (("train", found.train), ("val", found.val)):
        got = boxes_of(own)
        assert list(got) == list(data[split])
        for name, rows in got.items():
            torch.testing.assert_close(torch.tensor(rows), torch.tensor(data[split][name]).float())
    image, boxes = found.train.dataset[2]
    assert image.shape == (3, 40, 48)
    left, top, right, bottom = (int(side) for side in boxes.boxes[1].tolist())
    colour = image[:, top:bottom, left:right].amax((1, 2)) * 255
    assert colour.round().tolist() == [float(side) for side in picture(data["train"]["t2"], 0).getpixel((left, top))]  # type: ignore[union-attr]


def test_a_folder_of_classes_or_masks_has_no_boxes(tmp_path: Path) -> None:
    images(tmp_path / "train" / "images", splits()["train"])
    images(tmp_path / "train" / "masks", splits()["train"])
    assert not box_splits(str(tmp_path))
    assert infer_task(str(tmp_path)) == "segmentation"


def test_without_a_validation_split_a_tenth_is_held_out(tmp_path: Path) -> None:
    data = splits(train=20)["train"]
    images(tmp_path / "images", data)
    write_xml(tmp_path / "annotations", data)
    found = opened(tmp_path)
    assert (len(boxes_of(found.train)), len(boxes_of(found.val))) == (18, 2)
    assert sorted({**boxes_of(found.train), **boxes_of(found.val)}) == sorted(data)
    assert "held out" in found.report.notes[0]
    assert boxes_of(opened(tmp_path).val) == boxes_of(found.val)
    assert boxes_of(opened(tmp_path, seed=1).val) != boxes_of(found.val)


def test_validation_data_of_another_format_is_matched_by_name(tmp_path: Path) -> None:
    write_voc(tmp_path / "a", {"train": splits()["train"]})
    write_yolo(tmp_path / "b", splits(), names="[cell, rod]")
    found = opened(tmp_path / "a", val_data=str(tmp_path / "b"))
    assert boxes_of(found.val) == splits()["val"]


def test_a_part_of_the_training_images_is_taken(tmp_path: Path) -> None:
    found = opened(write_voc(tmp_path, splits()), limit=2)
    assert len(boxes_of(found.train)) == 2
    assert len(boxes_of(found.val)) == 3


def test_coco_crowds_are_marked_and_gaps_in_ids_closed(tmp_path: Path) -> None:
    root = write_coco(tmp_path, splits())
    file = root / "annotations" / "instances_train2017.json"
    document = json.loads(file.read_text())
    document["annotations"][1]["iscrowd"] = 1
    document["annotations"].append({**document["annotations"][0], "id": 99, "image_id": 4711})
    file.write_text(json.dumps(document))
    images(root / "train2017", {"extra": []})
    found = opened(root)
    crowd = [found.train.dataset[index][1].crowd.tolist() for index in range(4)]
    assert crowd == [[False, True], [False, False], [False, False], [False, False]]
    notes = " ".join(found.report.notes)
    assert "annotations in instances_train2017.json of images that it does not list, left out: 1 (99)" in notes
    assert "image files that instances_train2017.json does not list, left out: 1 (extra.png)" in notes


def _changed(kind: str, document: dict[str, Any]) -> dict[str, Any]:
    images_, annotations, categories = document["images"], document["annotations"], document["categories"]
    match kind:
        case "two images have the id 5":
            images_[1]["id"] = 5
        case "two categories have the id 7":
            categories[1]["id"] = 7
        case "two categories have the same name":
            categories[1]["name"] = "rod"
        case "no category has the id 8":
            annotations[0]["category_id"] = 8
        case "the annotation with the id 2 has no valid bbox":
            annotations[2]["bbox"] = [1, 2, 3]
        case "an entry has no file_name":
            del images_[0]["file_name"]
        case "this is no COCO file":
            document["images"] = {}
    return document


@pytest.mark.parametrize(
    "problem",
    [
        "two images have the id 5",
        "two categories have the id 7",
        "two categories have the same name",
        "no category has the id 8",
        "the annotation with the id 2 has no valid bbox",
        "an entry has no file_name",
        "this is no COCO file",
    ],
)
def test_what_is_wrong_in_a_coco_file_is_named(problem: str, tmp_path: Path) -> None:
    root = write_coco(tmp_path, splits())
    file = root / "annotations" / "instances_train2017.json"
    file.write_text(json.dumps(_changed(problem, coco_document(splits()["train"]))))
    with pytest.raises(DataError, match=problem) as raised:
        opened(root)
    assert raised.value.where == str(file)


def test_a_category_that_only_groups_others_is_left_out(tmp_path: Path) -> None:
    root = write_coco(tmp_path, splits(), roboflow=True)
    for split in ("train", "valid"):
        file = root / split / "_annotations.coco.json"
        document = json.loads(file.read_text())
        document["categories"] = [{"id": 0, "name": "cells", "supercategory": "none"}] + [
            {**category, "supercategory": "cells"} for category in document["categories"]
        ]
        file.write_text(json.dumps(document))
    assert opened(root).train.class_names == CLASSES


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("<annotation><object><name>cell</name></object></annotation>", "an object has no bndbox"),
        ("<annotation><object><bndbox/></object></annotation>", "an object has no name"),
        (
            "<annotation><object><name>a</name><bndbox><xmin>x</xmin></bndbox></object></annotation>",
            "xmin is no number: 'x'",
        ),
        ("<annotation>", "the file cannot be read: no element found"),
        ('<!DOCTYPE a [<!ENTITY b "c">]><annotation/>', "with a document type"),
    ],
)
def test_what_is_wrong_in_an_xml_file_is_named(text: str, problem: str, tmp_path: Path) -> None:
    root = write_voc(tmp_path, splits())
    file = root / "train" / "annotations" / "t1.xml"
    file.write_text(text)
    with pytest.raises(DataError, match=problem) as raised:
        opened(root)
    assert raised.value.where == str(file)


def test_difficult_objects_are_ignored_and_files_without_a_partner_named(tmp_path: Path) -> None:
    root = write_voc(tmp_path, splits())
    file = root / "val" / "annotations" / "v0.xml"
    file.write_text(file.read_text().replace("</name>", "</name><difficult>1</difficult>", 1))
    images(root / "val" / "images", {"extra": []})
    found = opened(root)
    assert found.val.dataset[0][1].crowd.tolist() == [True, False]
    notes = " ".join(found.report.notes)
    assert "images with objects marked as difficult, which are ignored in evaluation: 1 (v0)" in notes
    assert "image files without annotations, left out: 1 (extra.png)" in notes
    (root / "val" / "images" / "v1.png").unlink()
    with pytest.raises(DataError, match="1 of 3 images are unreadable"):
        opened(root)


@pytest.mark.parametrize("line", ["2 0.5 0.5 0.1 0.1", "0 0.5 0.5 0.1", "0.5 0.5 0.5 0.1 0.1", "cell 0.5 0.5 0.1 0.1"])
def test_what_is_wrong_in_a_text_file_is_named(line: str, tmp_path: Path) -> None:
    root = write_yolo(tmp_path, splits())
    file = root / "labels" / "train" / "t3.txt"
    file.write_text(f"0 0.5 0.5 0.1 0.1\n{line}\n")
    with pytest.raises(DataError, match="line 2 is no box") as raised:
        opened(root)
    assert raised.value.where == str(file)


def test_yolo_polygons_become_boxes_and_images_without_a_file_have_none(tmp_path: Path) -> None:
    root = write_yolo(tmp_path, splits())
    (root / "labels" / "train" / "t0.txt").write_text("1 0.25 0.5 0.75 0.25 0.5 1.0\n")
    (root / "labels" / "train" / "t1.txt").unlink()
    (root / "labels" / "train" / "lost.txt").write_text("")
    found = opened(root)
    assert boxes_of(found.train)["t0"] == [pytest.approx((12, 10, 36, 40, 1))]
    assert boxes_of(found.train)["t1"] == []
    notes = " ".join(found.report.notes)
    assert "images without a text file of boxes, taken to have no object: 1 (t1.png)" in notes
    assert "text files of boxes without an image, left out: 1 (lost.txt)" in notes


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("train: images/train\n", "this is no data file of YOLO"),
        ("train: images/train\nnames: [a, a]\n", "names has no valid class names"),
        ("train: images/train\nnames: {1: a, 2: b}\n", "names has no valid class names"),
        ("train: elsewhere\nnames: [a, b]\n", "train names a folder that does not exist: elsewhere"),
    ],
)
def test_what_is_wrong_in_a_data_file_is_named(text: str, problem: str, tmp_path: Path) -> None:
    root = write_yolo(tmp_path, splits())
    (root / "data.yaml").write_text(text)
    with pytest.raises(DataError, match=problem):
        opened(root / "data.yaml")


def test_other_data_may_have_a_file_of_this_name(tmp_path: Path) -> None:
    images(tmp_path / "cell", splits()["train"])
    (tmp_path / "data.yaml").write_text("author: nobody\n")
    assert infer_task(str(tmp_path)) == "classification"
    with pytest.raises(DataError, match="no images with boxes"):
        opened(tmp_path)


def test_yolo_paths_as_roboflow_writes_them(tmp_path: Path) -> None:
    data = splits()
    for split, folder in (("train", "train"), ("val", "valid")):
        write_yolo(tmp_path / "made" / split, {split: data[split]})
        (tmp_path / folder).mkdir()
        (tmp_path / "made" / split / "images" / split).rename(tmp_path / folder / "images")
        (tmp_path / "made" / split / "labels" / split).rename(tmp_path / folder / "labels")
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: [cell, rod]\n")
    found = opened(tmp_path / "data.yaml")
    assert boxes_of(found.val) == data["val"]
