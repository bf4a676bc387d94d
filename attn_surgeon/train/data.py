"""Open a folder of images, or one of the packaged demo tasks, as a dataset."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from attn_surgeon.demo.data import CLASS_NAMES, TASKS, digits
from attn_surgeon.errors import DataError
from attn_surgeon.preprocessing import Preprocessing

SPLITS = ("train", "val", "test")
SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".pbm", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"})


@dataclass(frozen=True)
class ImageData:
    """Hold a dataset of (image, label) and the names that its labels number."""

    dataset: Dataset[Any]
    class_names: tuple[str, ...]


class FolderImages(Dataset[tuple[Tensor, int]]):
    """Serve image files (C, H, W) with the labels of their folders."""

    def __init__(self, files: list[Path], labels: list[int], transform: Callable[[Any], Tensor]) -> None:
        self.files, self.labels, self.transform = files, labels, transform

    def __len__(self) -> int:
        """Count the images."""
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Read, transform and label one image."""
        return self.transform(read_image(self.files[index])), self.labels[index]


def read_image(path: Path) -> Image.Image:
    """Read an image file as a whole."""
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        hint = f"repair or remove it ({_one_line(error)})"
        raise DataError("cannot read this image", str(path), hint) from error


def open_dataset(spec: str, split: str, preprocessing: Preprocessing) -> ImageData:
    """Open a split of `demo`, of `demo-clutter`, or of a folder of class folders."""
    transform = preprocessing.transform()
    if spec in TASKS:
        return ImageData(digits(spec, split, transform=transform), CLASS_NAMES)
    folder = _split_folder(Path(spec), split)
    classes = {name.name: images_in(name) for name in _subfolders(folder)}
    _check(classes, folder)
    files = [file for found in classes.values() for file in found]
    labels = [label for label, found in enumerate(classes.values()) for _ in found]
    return ImageData(FolderImages(files, labels, transform), tuple(classes))


def has_parts(spec: str) -> bool:
    """Tell whether data has parts of its own, such as train and val."""
    return spec in TASKS or bool(_splits(_require_folder(Path(spec))))


def _require_folder(root: Path) -> Path:
    """Refuse what is no folder."""
    if not root.is_dir():
        what = "this is no folder" if root.exists() else "no such folder"
        raise DataError(what, str(root), f"give a folder of class folders, or {' or '.join(TASKS)}")
    return root


def _split_folder(root: Path, split: str) -> Path:
    """Choose the folder that holds the class folders."""
    splits = _splits(_require_folder(root))
    if not splits or split in splits:
        return root / split if splits else root
    raise DataError(f"no split {split!r}", str(root), f"splits here: {', '.join(splits)}")


def _splits(root: Path) -> list[str]:
    """Name the splits of a folder, or none where its folders are the classes."""
    folders = _subfolders(root)
    splits = [folder for folder in folders if folder.name in SPLITS]
    # A class may be called `train` too: splits hold folders themselves, or stand alone.
    if len(splits) == len(folders) or any(_subfolders(folder) for folder in splits):
        return [folder.name for folder in splits]
    return []


def _subfolders(folder: Path) -> list[Path]:
    """List the visible folders in a folder, alphabetically."""
    try:
        found = [path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")]
    except OSError as error:
        raise DataError("cannot list this folder", str(folder), _one_line(error)) from error
    return sorted(found, key=lambda path: path.name)


def images_in(folder: Path) -> list[Path]:
    """List the image files of a class at any depth, alphabetically."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(path for path in found if not _hidden(path.relative_to(folder)))


def _hidden(path: Path) -> bool:
    """Tell whether a part of a path starts with a dot."""
    return any(part.startswith(".") for part in path.parts)


def _check(classes: dict[str, list[Path]], folder: Path) -> None:
    """Refuse a folder without class folders and classes without images."""
    if not classes:
        raise DataError("no class folders", str(folder), "give every class a folder of its images")
    empty = [name for name, found in classes.items() if not found]
    if len(empty) == len(classes):
        raise DataError("no images", str(folder), f"read are {', '.join(sorted(SUFFIXES))}")
    if empty:
        shown = ", ".join(empty[:5]) + (f" and {len(empty) - 5} more" if len(empty) > 5 else "")
        raise DataError(f"class without images: {shown}", str(folder), "remove its folder or fill it")


def _one_line(error: Exception) -> str:
    """Say an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__
