"""Images that are read one by one, from wherever they lie, with their labels."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from attn_surgeon.errors import DataError, ImageError

# What Pillow raises for files that are no images, or no whole ones.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


@dataclass(frozen=True)
class ImageData:
    """Hold a dataset of (image, label) and the names that its labels number."""

    dataset: Dataset[Any]
    class_names: tuple[str, ...]


class Source(Protocol):
    """Say where images lie: each has a label, a name for people, and bytes in some image format."""

    @property
    def labels(self) -> Sequence[int]:
        """Number the class of each image."""
        ...

    def name(self, index: int) -> str:
        """Name an image."""
        ...

    def open(self, index: int) -> BinaryIO:
        """Open the bytes of an image; may raise OSError."""
        ...


class Pictures(Dataset[tuple[Tensor, int]]):
    """Serve the images (C, H, W) of a source with their labels, or with others."""

    def __init__(self, source: Source, transform: Callable[[Any], Any], labels: Sequence[int] | None = None) -> None:
        self.source, self.transform = source, transform
        self.labels = list(source.labels if labels is None else labels)

    def __len__(self) -> int:
        """Count the images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Read, transform and label one image."""
        image, label = self.picture(index)
        return self.transform(image), label

    def picture(self, index: int) -> tuple[Image.Image, int]:
        """Read and label one image as it is; raise ImageError where it cannot be read."""
        try:
            with self.source.open(index) as file:
                return _decoded(file), self.labels[index]
        except UNREADABLE as error:
            raise unreadable(self.source.name(index), error) from error


class Selected:
    """Give some of the images of a source."""

    def __init__(self, source: Source, chosen: Sequence[int]) -> None:
        self.source, self.chosen = source, list(chosen)
        self.labels = [source.labels[index] for index in self.chosen]

    def name(self, index: int) -> str:
        """Name an image."""
        return self.source.name(self.chosen[index])

    def open(self, index: int) -> BinaryIO:
        """Open the bytes of an image."""
        return self.source.open(self.chosen[index])


def read_image(path: Path) -> Image.Image:
    """Read an image file as a whole; raise ImageError where that cannot be done."""
    try:
        return _decoded(path)
    except UNREADABLE as error:
        raise unreadable(str(path), error) from error


def _decoded(file: Path | BinaryIO) -> Image.Image:
    with Image.open(file) as image:
        image.load()
        return image


def unreadable(name: str, error: Exception) -> ImageError:
    """Say that one image cannot be read, and why, in words that are the same each time."""
    # Pillow's own words hold the address of the file object.
    reason = "no image format that is known" if isinstance(error, UnidentifiedImageError) else one_line(error)
    return ImageError("cannot read this image", name, f"repair or remove it ({reason})")


def one_line(error: Exception) -> str:
    """Say an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def relabelled(data: ImageData, class_names: tuple[str, ...]) -> ImageData:
    """Number the classes as `class_names` does; raise DataError where a class with images is not among them."""
    if data.class_names == class_names:
        return data
    dataset = data.dataset
    if not isinstance(dataset, Pictures):
        raise DataError("the classes differ", "the images to train on and to measure on", "give both the same")
    unknown = sorted({data.class_names[label] for label in set(dataset.labels)} - {*class_names})
    if unknown:
        raise DataError(f"no such class to train on: {some(unknown)}", "the images to measure on", "give both the same")
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = [numbers[data.class_names[label]] for label in dataset.labels]
    return ImageData(Pictures(dataset.source, dataset.transform, labels), class_names)


def as_known(data: ImageData, class_names: tuple[str, ...] | None) -> ImageData:
    """Number the classes as a network does that knows them all by name; leave those alone that it does not know."""
    known = class_names is not None and {*data.class_names} <= {*class_names}
    return relabelled(data, class_names) if known and class_names is not None else data


def some(names: Sequence[str], count: int = 5) -> str:
    """Name the first few of many."""
    return ", ".join(names[:count]) + (f" and {len(names) - count} more" if len(names) > count else "")
