"""Read folders of image files with one folder per class, as torchvision's ImageFolder does, with or without splits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from attn_surgeon.data.images import ImageFile, message_line
from attn_surgeon.errors import DataError

FOLDER_SPLITS = ("train", "val", "test")
IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


class Files:
    """Image files with labels."""

    def __init__(self, files: Sequence[ImageFile], labels: list[int]) -> None:
        self.files, self.labels = files, labels

    def name(self, index: int) -> str:
        """Return the path of an image."""
        return str(self.files[index])

    def open(self, index: int) -> BinaryIO:
        """Open an image file."""
        return self.files[index].open("rb")


def open_folder(spec: str, split: str) -> tuple[Files, tuple[str, ...]]:
    """Return the images of a split, or of the folder itself where it has no splits, and the class names.

    A class may have no images, but not all of them.
    """
    folder = _split_folder(Path(spec), split)
    classes = {subfolder.name: images_in(subfolder) for subfolder in _subfolders(folder)}
    if not classes:
        raise DataError("no class folders", str(folder), "expected one folder of images per class")
    if not any(classes.values()):
        raise DataError("no images", str(folder), f"supported: {', '.join(sorted(IMAGE_SUFFIXES))}")
    files = [file for images in classes.values() for file in images]
    labels = [label for label, images in enumerate(classes.values()) for _ in images]
    return Files(files, labels), tuple(classes)


def folder_splits(spec: str) -> list[str]:
    """Return the names of the splits of a folder; none where its subfolders are classes."""
    folders = _subfolders(_require_folder(Path(spec)))
    splits = [folder for folder in folders if folder.name in FOLDER_SPLITS]
    # A class may be called `train` too. Splits have subfolders, or there is nothing else beside them.
    if len(splits) == len(folders) or any(_subfolders(folder) for folder in splits):
        return [folder.name for folder in splits]
    return []


def _require_folder(root: Path) -> Path:
    """Return the path of a folder; raise DataError where there is none."""
    if not root.is_dir():
        what = "not a folder" if root.exists() else "no such folder"
        hint = (
            "expected a folder of class folders, of images/ and masks/, or of images with boxes (COCO, Pascal VOC, "
            "YOLO); torch/NAME, hfds/USER/NAME or wds/SHARDS; demo, demo-clutter or demo-boxes"
        )
        raise DataError(what, str(root), hint)
    return root


def _split_folder(root: Path, split: str) -> Path:
    splits = folder_splits(str(root))
    if not splits or split in splits:
        return root / split if splits else root
    raise DataError(f"no split {split!r}", str(root), f"splits here: {', '.join(splits)}")


def _subfolders(folder: Path) -> list[Path]:
    """Return the visible subfolders of a folder, sorted by name."""
    try:
        subfolders = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise DataError("cannot list this folder", str(folder), message_line(error)) from error
    return sorted(subfolders, key=lambda path: path.name)


def images_in(folder: Path) -> list[Path]:
    """Return the image files in a folder at any depth, sorted."""
    images = (path for path in folder.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    return sorted(path for path in images if not _hidden(path.relative_to(folder)))


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def files_by_name(folder: Path, suffixes: frozenset[str] = IMAGE_SUFFIXES) -> dict[str, Path]:
    """Return the files in a folder, at any depth, by their relative path without the suffix, sorted."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or any(part.startswith(".") for part in inside.parts):
            continue
        name = inside.with_suffix("").as_posix()
        if name in files:
            what = f"two files have the same name, {files[name].name} and {path.name}"
            raise DataError(what, str(path.parent), "keep one")
        files[name] = path
    return files
