"""Datasets of labelled images, decoded one by one from files, shards or other datasets."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from attn_surgeon.errors import DataError, ImageError, first_few

NAMES_SHOWN = 5  # in an error or a note

# What Pillow raises for files that are not images, or truncated.
UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


_SAME = "training and validation images must have the same classes"


@dataclass(frozen=True)
class ImageData:
    """A dataset of (image, target), the names of its classes, and notes for the user from opening it."""

    dataset: Dataset[Any]
    class_names: tuple[str, ...]
    notes: tuple[str, ...] = ()


class ImageSource(Protocol):
    """A source of encoded images, each with a label and a name for error messages."""

    @property
    def labels(self) -> Sequence[int]:
        """The class number of each image."""
        ...

    def name(self, index: int) -> str:
        """Return the name of an image."""
        ...

    def open(self, index: int) -> BinaryIO:
        """Open the bytes of an image; may raise OSError."""
        ...


class ImageFile(Protocol):
    """An image file, as a path is, or an image that is drawn when it is opened."""

    @property
    def name(self) -> str:
        """The name without folders."""
        ...

    def open(self, mode: Literal["rb"], /) -> BinaryIO:
        """Open the bytes of the file; may raise OSError."""
        ...


class Pictures(Dataset[tuple[Tensor, int]]):
    """Serve the transformed images of a source with their labels, or with the labels that are passed."""

    def __init__(
        self, source: ImageSource, transform: Callable[[Any], Any], labels: Sequence[int] | None = None
    ) -> None:
        self.source, self.transform = source, transform
        self.labels = list(source.labels if labels is None else labels)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image, label = self.picture(index)
        return self.transform(image), label

    def picture(self, index: int) -> tuple[Image.Image, int]:
        """Return an image without the transform, and its label; raise ImageError where it is unreadable."""
        try:
            with self.source.open(index) as file:
                return _decoded(file), self.labels[index]
        except UNREADABLE as error:
            raise unreadable(self.source.name(index), error) from error


class Selected:
    """A source of chosen images of another one."""

    def __init__(self, source: ImageSource, chosen: Sequence[int]) -> None:
        self.source, self.chosen = source, list(chosen)
        self.labels = [source.labels[index] for index in self.chosen]

    def name(self, index: int) -> str:
        """Return the name of an image."""
        return self.source.name(self.chosen[index])

    def open(self, index: int) -> BinaryIO:
        """Open the bytes of an image."""
        return self.source.open(self.chosen[index])


def read_image(path: ImageFile) -> Image.Image:
    """Read and decode an image file; raise ImageError where it is unreadable."""
    try:
        with path.open("rb") as file:
            return _decoded(file)
    except UNREADABLE as error:
        raise unreadable(str(path), error) from error


def open_image(file: BinaryIO) -> Image.Image:
    """Open an image, which is decoded later; raise UnidentifiedImageError for an unknown format, as Pillow does.

    ultralytics, where it is imported, replaces `Image.open` and looks for a plugin at an unknown format.
    """
    try:
        return Image.open(file)
    except ImportError as error:
        if isinstance(error.__context__, UnidentifiedImageError):
            raise error.__context__ from None
        raise


def _decoded(file: BinaryIO) -> Image.Image:
    with open_image(file) as image:
        image.load()
        return image


def unreadable(name: str, error: Exception) -> ImageError:
    """Return the error for an unreadable image, with the same text in every run."""
    # Pillow's message for an unknown format contains the address of the file object.
    reason = "unknown image format" if isinstance(error, UnidentifiedImageError) else message_line(error)
    return ImageError("cannot read this image", name, f"repair or remove it ({reason})")


def message_line(error: Exception) -> str:
    """Return the message of an error in one line, or its class where it has none."""
    return " ".join(str(error).split()) or type(error).__name__


def relabelled(data: ImageData, class_names: tuple[str, ...]) -> ImageData:
    """Return data with classes numbered as in `class_names`; raise DataError for images of a class not among these."""
    if data.class_names == class_names:
        return data
    dataset = data.dataset
    if not isinstance(dataset, Pictures):
        raise DataError("the classes differ", "the training and validation images", _SAME)
    unknown = sorted({data.class_names[label] for label in set(dataset.labels)} - {*class_names})
    if unknown:
        raise DataError(
            f"no training images of class {first_few(unknown, NAMES_SHOWN)}", "the validation images", _SAME
        )
    numbers = {name: number for number, name in enumerate(class_names)}
    labels = [numbers[data.class_names[label]] for label in dataset.labels]
    return ImageData(Pictures(dataset.source, dataset.transform, labels), class_names)
