"""Read YOLO data: `data.yaml`, and a text file for each image with a line for each box.

`images/train/NAME.jpg` belongs to `labels/train/NAME.txt`. A line has a class number and centre x, centre y, width and
height, or the corners of a polygon, all as fractions of the image's sides. An image without a text file has no object.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from attn_surgeon.data.boxes.annotations import SPLIT_NAMES, Annotations, SplitReaders, in_columns, problem_note
from attn_surgeon.data.folders import IMAGE_SUFFIXES, images_in
from attn_surgeon.errors import DataError, excerpt
from attn_surgeon.text_files import read_text, read_yaml

FILES = ("data.yaml", "data.yml", "dataset.yaml")
_Row = tuple[float, ...]  # x1, y1, x2, y2, class number, crowd


def yolo_splits(root: Path) -> SplitReaders:
    """Return a reader for each split of a folder with `data.yaml`, or of such a file; none for other data."""
    is_file = root.suffix in (".yaml", ".yml") and root.is_file()
    file = root if is_file else next((root / name for name in FILES if (root / name).is_file()), None)
    if file is None:
        return {}
    document = read_yaml(file, DataError)
    if not isinstance(document, dict) or "train" not in document or "names" not in document:
        if not is_file:  # a file of this name that other data may have
            return {}
        raise DataError("this is no data file of YOLO", str(file), "expected train, val and names")
    class_names = _names(document["names"], file)
    places = {split: _places(document, split, file) for split in SPLIT_NAMES if document.get(split)}
    return {split: partial(read_yolo, own, class_names) for split, own in places.items()}


def read_yolo(places: Sequence[Path], class_names: tuple[str, ...]) -> Annotations:
    """Return the annotations of folders of images, or of text files that list images."""
    images = [image for place in places for image in _images(place)]
    labels = {folder: folder_of(folder) for folder in {image.parent for image in images}}
    rows: list[_Row] = []
    unlabelled, known = [], set()
    for number, image in enumerate(images):
        path = labels[image.parent] / f"{image.stem}.txt"
        if path.is_file():
            known.add(path)
            rows += [(number, *row) for row in _rows(path, len(class_names))]
        else:
            unlabelled.append(image.name)
    files = (path for folder in sorted({*labels.values()}) for path in sorted(folder.glob("*.txt")))
    lost = [path.name for path in files if path not in known and path.name != "classes.txt"]
    notes = (
        *problem_note("images without a text file of boxes, taken to have no object", unlabelled),
        *problem_note("text files of boxes without an image, left out", lost),
    )
    found = in_columns(images, class_names, rows)
    return replace(found, relative=True, notes=notes)


def folder_of(images: Path) -> Path:
    """Return the folder of the text files that belong to a folder of images: the last `images` becomes `labels`.

    >>> folder_of(Path("cells/images/train")).as_posix()
    'cells/labels/train'
    """
    parts = list(images.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def _names(names: Any, file: Path) -> tuple[str, ...]:
    """Return the class names, which are a list or a mapping of class numbers."""
    if isinstance(names, Mapping) and sorted(names, key=str) == sorted(range(len(names)), key=str):
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not names or len({*map(str, names)}) < len(names):
        hint = "expected different names, as a list, or by class numbers from 0"
        raise DataError("names has no valid class names", str(file), hint)
    return tuple(map(str, names))


def _places(document: Mapping[str, Any], split: str, file: Path) -> list[Path]:
    """Return the existing folders or lists of images of a split, relative to `path` or else to the file."""
    value, base = document[split], file.parent / str(document.get("path") or ".")
    found = []
    for part in value if isinstance(value, list) else [value]:
        # Roboflow writes paths from a folder below that of the file
        options = [root / str(part).removeprefix(skip) for skip in ("", "../") for root in (base, file.parent)]
        place = next((option for option in options if os.path.exists(option)), None)  # noqa: PTH110 - pathlib raises for a name that is too long
        if place is None:
            raise DataError(f"{split} names a folder that does not exist: {excerpt(part)}", str(file), "correct it")
        found.append(place)
    return found


def _images(place: Path) -> list[Path]:
    """Return the images in a folder, or those that a text file lists, relative to its own folder."""
    if place.is_dir():
        return images_in(place)
    lines = (line.strip() for line in read_text(place, DataError, 2**28).splitlines())
    return [place.parent / line for line in lines if Path(line).suffix.lower() in IMAGE_SUFFIXES]


def _rows(path: Path, classes: int) -> Iterator[_Row]:
    for number, line in enumerate(read_text(path, DataError).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            label, *values = map(float, words)
        except ValueError:
            label, values = -1.0, []
        if label not in range(classes) or len(values) < 4 or len(values) % 2:
            hint = f"expected a class number below {classes} and four numbers, or the corners of a polygon"
            raise DataError(f"line {number} is no box: {excerpt(line, 40)}", str(path), hint)
        yield (*_corners(values), label, 0.0)


def _corners(values: Sequence[float]) -> tuple[float, float, float, float]:
    if len(values) == 4:
        x, y, width, height = values
        return x - width / 2, y - height / 2, x + width / 2, y + height / 2
    return min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])
