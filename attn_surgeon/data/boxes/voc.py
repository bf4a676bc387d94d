"""Read Pascal VOC files: an XML file for each image.

`{train,val}/{images,annotations}/`, or `JPEGImages/`, `Annotations/` and `ImageSets/Main/{train,val}.txt` of VOCdevkit.
Coordinates are one-based and inclusive there, so one is subtracted from the lower ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

from attn_surgeon.data.boxes.annotations import (
    SPLIT_NAMES,
    Annotations,
    SplitReaders,
    in_columns,
    problem_note,
)
from attn_surgeon.data.folders import files_by_name
from attn_surgeon.errors import DataError, excerpt, first_line
from attn_surgeon.text_files import opened

_LARGEST = 2**24  # bytes of an XML file
_SIDES = ("xmin", "ymin", "xmax", "ymax")
_FOLDERS = (("images", "annotations"), ("JPEGImages", "Annotations"))
_Object = tuple[str, tuple[float, ...], bool]  # name, box, whether it is difficult


def voc_splits(root: Path) -> SplitReaders:
    """Return a reader for each split of a folder in Pascal VOC format; none where it is in another one."""
    for folder in (root, *sorted(root.glob("VOC*/"))):
        main = folder / "ImageSets" / "Main"
        if (folder / "Annotations").is_dir() and main.is_dir():
            lists = {split: main / f"{split}.txt" for split in SPLIT_NAMES}
            return {
                split: partial(read_voc, folder / "JPEGImages", folder / "Annotations", file)
                for split, file in lists.items()
                if file.is_file()
            }
    # a folder without splits has images to train on
    folders = [(split, root / name) for split, names in SPLIT_NAMES.items() for name in names] + [("train", root)]
    found: dict[str, Callable[[], Annotations]] = {}
    for split, folder in folders:
        for images, files in ((folder / images, folder / files) for images, files in _FOLDERS):
            if split not in found and images.is_dir() and next(files.rglob("*.xml"), None) is not None:
                found[split] = partial(read_voc, images, files)
    return found


def read_voc(images: Path, annotations: Path, listed: Path | None = None) -> Annotations:
    """Return the annotations of a folder of XML files, or of those that a text file lists.

    Classes are in alphabetical order; objects that are marked as difficult are ignored in evaluation.
    """
    pictures = files_by_name(images)
    names = _listed(listed) if listed is not None else _names(annotations)
    parsed = [list(_objects(annotations / f"{name}.xml")) for name in names]
    class_names = tuple(sorted({name for objects in parsed for name, _, _ in objects}))
    numbers = {name: number for number, name in enumerate(class_names)}
    rows = (
        (index, *box, numbers[name], difficult)
        for index, objects in enumerate(parsed)
        for name, box, difficult in objects
    )
    files = [pictures.get(name, images / f"{name}.jpg") for name in names]
    found = in_columns(files, class_names, rows)
    difficult = [names[index] for index in dict.fromkeys(found.owners[found.crowd].tolist())]
    known = {*names}
    unpaired = [path.name for name, path in pictures.items() if listed is None and name not in known]
    notes = (
        *problem_note("images with objects marked as difficult, which are ignored in evaluation", difficult),
        *problem_note("image files without annotations, left out", unpaired),
    )
    return replace(found, notes=notes)


def _names(annotations: Path) -> list[str]:
    return [path.relative_to(annotations).with_suffix("").as_posix() for path in sorted(annotations.rglob("*.xml"))]


def _listed(file: Path) -> list[str]:
    with file.open(encoding="utf-8-sig", errors="surrogateescape") as lines:
        return [words[0] for words in map(str.split, lines) if words]


def _objects(path: Path) -> Iterator[_Object]:
    for item in _tree(path).iter("object"):
        box = item.find("bndbox")
        if box is None:
            raise DataError("an object has no bndbox", str(path), "add it, or remove the object")
        name = (item.findtext("name") or "").strip()
        if not name:
            raise DataError("an object has no name", str(path), "add it, or remove the object")
        left, top, right, bottom = (_number(box, side, path) for side in _SIDES)
        yield name, (left - 1, top - 1, right, bottom), (item.findtext("difficult") or "").strip() == "1"


def _number(box: ElementTree.Element, side: str, path: Path) -> float:
    text = box.findtext(side)
    try:
        return float(text or "")
    except ValueError:
        raise DataError(f"{side} is no number: {excerpt(text)!r}", str(path), "correct it") from None


def _tree(path: Path) -> ElementTree.Element:
    """Parse an XML file; one with a document type is refused, because its entities may expand to unlimited text."""
    try:
        with opened(path) as file:
            content = file.read(_LARGEST + 1)
    except OSError as error:
        raise DataError(f"the file cannot be read: {error.strerror}", str(path)) from None
    if len(content) > _LARGEST or b"<!DOCTYPE" in content or b"\0" in content:
        what = f"larger than {_LARGEST:,} bytes, with a document type, or not UTF-8"
        raise DataError(f"this file is {what}", str(path), "expected a plain XML file of Pascal VOC")
    try:
        return ElementTree.fromstring(content)
    except (ElementTree.ParseError, ValueError, LookupError, RecursionError) as error:
        raise DataError(f"the file cannot be read: {first_line(error)}", str(path)) from None
