"""Read COCO files: a JSON file for each split, with images, annotations and categories.

`annotations/instances_train2017.json` with images in `train2017/`, or, as Roboflow writes it,
`train/_annotations.coco.json` beside its images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from attn_surgeon.data.boxes.annotations import (
    SPLIT_NAMES,
    Annotations,
    Column,
    SplitReaders,
    problem_note,
)
from attn_surgeon.data.folders import files_by_name
from attn_surgeon.errors import DataError, first_line
from attn_surgeon.text_files import parse_json, read_text

ROBOFLOW = "_annotations.coco.json"
_LARGEST = 2**31  # bytes
_LISTS = ("images", "annotations", "categories")


def coco_splits(root: Path) -> SplitReaders:
    """Return a reader for each split of a folder in COCO format; none where it is in another one."""
    places = {split: _place(root, names) for split, names in SPLIT_NAMES.items()}
    return {split: partial(read_coco, *place) for split, place in places.items() if place is not None}


def _place(root: Path, names: Sequence[str]) -> tuple[Path, Path] | None:
    """Return the annotation file of a split and the folder of its images."""
    for name in names:
        if (root / name / ROBOFLOW).is_file():
            return root / name / ROBOFLOW, root / name
        for pattern in (f"instances_{name}*.json", f"{name}*.json"):
            for file in sorted((root / "annotations").glob(pattern)):
                stem = file.stem.removeprefix("instances_")
                folders = [root / stem, root / "images" / stem, root / name, root / "images" / name, root / "images"]
                return file, next((folder for folder in folders if folder.is_dir()), root)
    return None


def read_coco(file: Path, folder: Path) -> Annotations:
    """Return the annotations in a COCO file; classes are numbered in the order of the category ids."""
    images, annotations, categories = _lists(file)
    paths = [folder / str(_value(image, "file_name", file)) for image in images]
    numbers = _numbered([_value(image, "id", file) for image in images], "images", file)
    labels = [_value(item, "category_id", file) for item in annotations]
    class_names, classes = _classes(categories, set(labels), file)
    if unknown := set(labels) - classes.keys():
        raise DataError(f"no category has the id {min(unknown, key=str)}", str(file), "add it to the categories")
    owners = np.array([numbers.get(_value(item, "image_id", file), -1) for item in annotations], dtype=np.int64)
    boxes = _boxes(annotations, file)
    lost = [str(item.get("id")) for item, owner in zip(annotations, owners, strict=True) if owner < 0]
    listed = {str(path) for path in paths}
    unlisted = [path.name for path in files_by_name(folder).values() if str(path) not in listed]
    order = owners.argsort(kind="stable")
    found = Annotations(
        paths,
        class_names,
        owners[order],
        boxes[order],
        np.array([classes[label] for label in labels], dtype=np.int64)[order],
        np.array([bool(item.get("iscrowd")) for item in annotations], dtype=bool)[order],
        notes=(
            *problem_note(f"annotations in {file.name} of images that it does not list, left out", lost),
            *problem_note(f"image files that {file.name} does not list, left out", unlisted),
        ),
    )
    return found.kept(found.owners >= 0)


def _lists(file: Path) -> tuple[list[Any], list[Any], list[Any]]:
    try:
        document = parse_json(read_text(file, DataError, _LARGEST))
    except (ValueError, RecursionError) as error:
        raise DataError(f"the file cannot be read: {first_line(error)}", str(file)) from None
    lists = [document.get(name) for name in _LISTS] if isinstance(document, dict) else [None]
    if not all(isinstance(part, list) and all(isinstance(item, dict) for item in part) for part in lists):
        raise DataError("this is no COCO file of boxes", str(file), f"expected the lists {', '.join(_LISTS)}")
    return lists[0], lists[1], lists[2]  # type: ignore[return-value]


def _value(item: Mapping[str, Any], name: str, file: Path) -> Any:
    value = item.get(name)
    if not isinstance(value, (int, str)):
        raise DataError(f"an entry has no {name}, or an invalid one", str(file), "see cocodataset.org/#format-data")
    return value


def _numbered(ids: Sequence[Any], kind: str, file: Path) -> dict[Any, int]:
    numbers = {own: number for number, own in enumerate(ids)}
    if len(numbers) < len(ids):
        twice = next(own for number, own in enumerate(ids) if numbers[own] != number)
        raise DataError(f"two {kind} have the id {twice}", str(file), "ids must be unique")
    return numbers


def _classes(categories: Sequence[Any], used: set[Any], file: Path) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the class names, and their numbers by category id; ids may have gaps.

    A category that only groups others, as Roboflow writes one, is left out.
    """
    names = {_value(category, "id", file): str(_value(category, "name", file)) for category in categories}
    _numbered([category["id"] for category in categories], "categories", file)
    groups = {str(category.get("supercategory")) for category in categories}
    ids = [
        own
        for own in sorted(names, key=lambda own: (isinstance(own, str), own))
        if own in used or names[own] not in groups
    ]
    if len({names[own] for own in ids}) < len(ids):
        raise DataError("two categories have the same name", str(file), "rename one")
    return tuple(names[own] for own in ids), {own: number for number, own in enumerate(ids)}


def _boxes(annotations: Sequence[Any], file: Path) -> Column:
    """Return the boxes (M, 4) as x1 y1 x2 y2, from x, y, width and height."""
    try:
        boxes = np.array([item["bbox"] for item in annotations], dtype=np.float64).reshape(len(annotations), 4)
    except (KeyError, TypeError, ValueError):
        bad = next(item.get("id") for item in annotations if not _is_box(item.get("bbox")))
        hint = "expected four numbers: x, y, width, height"
        raise DataError(f"the annotation with the id {bad} has no valid bbox", str(file), hint) from None
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(isinstance(side, (int, float)) for side in value)
