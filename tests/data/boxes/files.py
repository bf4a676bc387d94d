"""Small images with boxes, written in every format."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SIZE = (48, 40)  # width, height
CLASSES = ("cell", "rod")
Box = tuple[float, float, float, float, int]  # x1, y1, x2, y2, class number
COLOURS = ((230, 40, 40), (40, 60, 230))


def drawn(index: int, count: int = 2) -> list[Box]:
    """Return the boxes of an image, at even whole pixels."""
    dice = np.random.default_rng(index)
    found: list[Box] = []
    for number in range(count):
        left, top = 2 * int(dice.integers(0, 12)), 2 * int(dice.integers(0, 8))
        found.append((left, top, left + 12 + 4 * number, top + 16, (index + number) % len(CLASSES)))
    return found


def picture(boxes: Sequence[Box], index: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Return an image in which every box is filled with the colour of its class."""
    pixels = np.random.default_rng(1000 + index).integers(90, 140, (size[1], size[0], 3)).astype(np.uint8)
    for left, top, right, bottom, label in boxes:
        pixels[int(top) : int(bottom), int(left) : int(right)] = COLOURS[label]
    return Image.fromarray(pixels)


def images(folder: Path, boxes: Mapping[str, Sequence[Box]], suffix: str = ".png") -> None:
    """Write an image for every name."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, (name, own) in enumerate(boxes.items()):
        picture([box for box in own if np.isfinite(box[:4]).all()], index + len(folder.as_posix())).save(
            folder / f"{name}{suffix}"
        )


def splits(train: int = 4, val: int = 3) -> dict[str, dict[str, list[Box]]]:
    """Return boxes by image and split."""
    return {
        "train": {f"t{index}": drawn(index) for index in range(train)},
        "val": {f"v{index}": drawn(100 + index) for index in range(val)},
    }


def write_voc(root: Path, data: Mapping[str, Mapping[str, Sequence[Box]]]) -> Path:
    """Write XML files beside the images of each split."""
    for split, own in data.items():
        images(root / split / "images", own)
        write_xml(root / split / "annotations", own)
    return root


def write_xml(folder: Path, boxes: Mapping[str, Sequence[Box]]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, own in boxes.items():
        objects = "".join(
            f"<object><name>{CLASSES[label]}</name><bndbox><xmin>{left + 1}</xmin><ymin>{top + 1}</ymin>"
            f"<xmax>{right}</xmax><ymax>{bottom}</ymax></bndbox></object>"
            for left, top, right, bottom, label in own
        )
        (folder / f"{name}.xml").write_text(f"<annotation><filename>{name}.png</filename>{objects}</annotation>")


def write_devkit(root: Path, data: Mapping[str, Mapping[str, Sequence[Box]]]) -> Path:
    """Write VOCdevkit's folders."""
    main = root / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for split, own in data.items():
        images(root / "JPEGImages", own)
        write_xml(root / "Annotations", own)
        (main / f"{split}.txt").write_text("".join(f"{name}\n" for name in own))
    return root


def coco_document(boxes: Mapping[str, Sequence[Box]], suffix: str = ".png") -> dict[str, Any]:
    """Return a COCO document with gaps in its ids; a class number becomes the id 3 or 7."""
    listed = {name: 10 * number + 5 for number, name in enumerate(boxes)}
    annotations = [
        {"image_id": listed[name], "category_id": 4 * label + 3, "bbox": [x1, y1, x2 - x1, y2 - y1], "iscrowd": 0}
        for name, own in boxes.items()
        for x1, y1, x2, y2, label in own
    ]
    return {
        "images": [{"id": own, "file_name": f"{name}{suffix}"} for name, own in listed.items()],
        "annotations": [{"id": number, **item} for number, item in enumerate(annotations)],
        "categories": [{"id": 7, "name": CLASSES[1]}, {"id": 3, "name": CLASSES[0]}],
    }


def write_coco(root: Path, data: Mapping[str, Mapping[str, Sequence[Box]]], *, roboflow: bool = False) -> Path:
    """Write a JSON file for each split, in the layout of COCO or of Roboflow."""
    for split, own in data.items():
        folder = root / ({"val": "valid"}.get(split, split) if roboflow else f"{split}2017")
        images(folder, own)
        file = folder / "_annotations.coco.json" if roboflow else root / "annotations" / f"instances_{split}2017.json"
        file.parent.mkdir(exist_ok=True)
        file.write_text(json.dumps(coco_document(own)))
    return root


def write_yolo(root: Path, data: Mapping[str, Mapping[str, Sequence[Box]]], names: str = "[cell, rod]") -> Path:
    """Write text files in labels/, and data.yaml."""
    for split, own in data.items():
        images(root / "images" / split, own)
        (root / "labels" / split).mkdir(parents=True)
        for name, boxes in own.items():
            (root / "labels" / split / f"{name}.txt").write_text("".join(map(yolo_line, boxes)))
    (root / "data.yaml").write_text(f"path: .\ntrain: images/train\nval: images/val\nnames: {names}\n")
    return root


def yolo_line(box: Box) -> str:
    """Return the line of a box."""
    left, top, right, bottom, label = box
    centre = (left + right) / 2 / SIZE[0], (top + bottom) / 2 / SIZE[1]
    sides = (right - left) / SIZE[0], (bottom - top) / SIZE[1]
    return f"{label} {' '.join(map(str, (*centre, *sides)))}\n"
