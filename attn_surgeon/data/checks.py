"""Check data before training: unreadable images, duplicates between splits (leaks), classes without images."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import SEEK_END
from typing import Any, TypeVar

from attn_surgeon.data.images import (
    NAMES_SHOWN,
    UNREADABLE,
    ImageData,
    ImageSource,
    Pictures,
    Selected,
    open_image,
    unreadable,
)
from attn_surgeon.errors import DataError, ImageError, first_few, option

THREADS = 8
BIG = 2**15  # bytes; reading smaller files is faster without threads
SAMPLED = 20  # images from which the typical size is estimated
MUCH_SMALLER = 2.0  # factor of enlargement at which the network was probably trained on small images
LEAKED = "validation images that are byte for byte among the training images"
LEFT_OUT = "unreadable images, left out"
T = TypeVar("T")


@dataclass(frozen=True)
class DataReport:
    """The result of the checks: JSON values, notes for the user, and an error for each unreadable image."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unreadable: tuple[ImageError, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """The inspection of an image file: its size in bytes, its shape (width, height) and its labels, or its error."""

    size: int = 0
    shape: tuple[int, int] = (0, 0)
    labels: tuple[int, ...] = ()
    error: ImageError | None = None


@dataclass(frozen=True)
class InspectedImages:
    """The chosen images of a source, with the inspection of each."""

    source: ImageSource
    chosen: Sequence[int]
    inspections: Sequence[Inspection]

    @property
    def readable(self) -> list[int]:
        """The chosen images that can be read."""
        pairs = zip(self.chosen, self.inspections, strict=True)
        return [index for index, inspection in pairs if inspection.error is None]

    @property
    def errors(self) -> tuple[ImageError, ...]:
        """The errors of the unreadable images."""
        return tuple(inspection.error for inspection in self.inspections if inspection.error is not None)

    def smaller_than(self, size: tuple[int, int]) -> list[str]:
        """Return the names of the readable images with a side shorter than that of `size` (H, W)."""
        height, width = size
        return [
            self.source.name(index)
            for index, inspection in zip(self.chosen, self.inspections, strict=True)
            if not inspection.error and (inspection.shape[1] < height or inspection.shape[0] < width)
        ]


def inspect_images(pictures: Pictures, chosen: Sequence[int], *, decode: bool, max_bad: float) -> InspectedImages:
    """Inspect the file headers of the chosen images or, with `decode`, decode each image.

    Raises:
        DataError: more than the fraction `max_bad` of the images is unreadable.
    """

    def labelled(index: int) -> Inspection:
        return replace(inspect_file(pictures.source, index, decode=decode), labels=(pictures.labels[index],))

    images = InspectedImages(pictures.source, chosen, for_each(labelled, chosen, pictures.source))
    require_readable(images, max_bad)
    return images


def inspect_file(source: ImageSource, index: int, *, decode: bool) -> Inspection:
    """Inspect the file header of an image or, with `decode`, decode it."""
    try:
        with source.open(index) as file:
            size = file.seek(0, SEEK_END)
            file.seek(0)
            with open_image(file) as image:
                (image.load if decode else image.verify)()
                return Inspection(size, image.size)
    except (*UNREADABLE, IndexError) as error:  # IndexError is what Pillow's verify raises for a PNG without pixels
        return Inspection(error=unreadable(source.name(index), error))


def require_readable(images: InspectedImages, max_bad: float) -> None:
    """Raise DataError where more than the fraction `max_bad` of the images is unreadable."""
    bad, count = images.errors, len(images.chosen)
    if len(bad) > max_bad * count:
        what = f"{len(bad)} of {count} images are unreadable, more than {option('max_bad', f'{max_bad:g}')} allows"
        raise DataError(
            what,
            first_few([error.where for error in bad], NAMES_SHOWN),
            f"repair or remove them, or raise {option('max_bad')}",
        )


def for_each(function: Callable[[int], T], chosen: Sequence[int], source: ImageSource) -> list[T]:
    """Return the results of a function for images; it is called in threads where files are large."""
    first = [inspect_file(source, index, decode=False).size for index in chosen[:20]]
    if sum(first) < BIG * len(first):
        return list(map(function, chosen))
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(function, chosen))


def without_unreadable(data: ImageData, max_bad: float) -> tuple[ImageData, tuple[str, ...]]:
    """Decode each image once, and return the data without the unreadable ones, with notes on them.

    With `max_bad` 0, no image is inspected: evaluation then raises the error of the first unreadable one.
    """
    pictures = data.dataset
    if not max_bad or not isinstance(pictures, Pictures):
        return data, ()
    images = inspect_images(pictures, range(len(pictures)), decode=True, max_bad=max_bad)
    if not images.errors:
        return data, ()
    labels = [pictures.labels[index] for index in images.readable]
    readable = Pictures(Selected(pictures.source, images.readable), pictures.transform, labels)
    return ImageData(readable, data.class_names), (_note(LEFT_OUT, [error.where for error in images.errors]),)


def enlargement_notes(sizes: Iterable[tuple[int, int]], size: tuple[int, int], remedy: str) -> tuple[str, ...]:
    """Return a note where images (width, height) are much smaller than a network's input (H, W).

    A network that was trained on small images loses most of its accuracy on enlarged ones; this happens where its
    input size was not set and the default of 224 is assumed.
    """
    sizes = list(sizes)
    if not sizes:
        return ()
    width, height = (int(statistics.median(side)) for side in zip(*sizes, strict=True))
    if min(size[0] / max(height, 1), size[1] / max(width, 1)) < MUCH_SMALLER:
        return ()
    side = option("size", str(height) if height == width else f"{height}x{width}")
    what = f"the images are {height}×{width} and are enlarged to the network's input size {size[0]}×{size[1]}"
    return (f"{what}; if it was trained on images of their size, {remedy} with {side}",)


def sampled_sizes(pictures: Pictures) -> list[tuple[int, int]]:
    """Return the (width, height) of a few images at regular intervals of the dataset."""
    step = max(1, len(pictures) // SAMPLED)
    inspections = (inspect_file(pictures.source, index, decode=False) for index in range(0, len(pictures), step))
    return [inspection.shape for inspection in inspections if inspection.error is None]


def report_on(
    train: InspectedImages,
    val: InspectedImages,
    class_names: tuple[str, ...],
    size: tuple[int, int],
    leaks: str,
    small: str = "enlarged",
) -> DataReport:
    """Return the report on training and validation images.

    Args:
        train, val: the inspected images.
        class_names: the names of the classes.
        size: the input size (H, W) of the network.
        leaks: what to do about validation images among the training images: `warn` or `refuse`.
        small: what is done with images smaller than the input: `enlarged` or `padded`.

    Raises:
        DataError: validation images are among the training images, and `leaks` is `refuse`.
    """
    splits = {"train": train, "val": val}
    counts = {name: _counts(images, class_names) for name, images in splits.items()}
    facts = {name: _facts(images, counts[name], size) for name, images in splits.items()}
    same = duplicates(train, val)
    if same and leaks == "refuse":
        hint = f"remove them from one of the two, or accept them: {option('leaks', 'warn')}"
        raise DataError(f"{LEAKED}: {len(same):,}", first_few(same, NAMES_SHOWN), hint)
    notes = [*_count_notes(counts), *_class_notes(counts)]
    problems = {
        LEAKED: same,
        LEFT_OUT: [error.where for error in (*train.errors, *val.errors)],
        f"images smaller than {size[0]}×{size[1]}, {small}": train.smaller_than(size) + val.smaller_than(size),
    }
    notes += [_note(problem, names) for problem, names in problems.items() if names]
    if small == "enlarged":
        shapes = [inspection.shape for inspection in train.inspections if inspection.error is None]
        notes += enlargement_notes(shapes, size, "insert the blocks again")
    document = {"classes": len(class_names), **facts, "duplicates": {"count": len(same), "first": same[:5]}}
    return DataReport(document, tuple(notes), (*train.errors, *val.errors))


def _counts(images: InspectedImages, class_names: tuple[str, ...]) -> dict[str, int]:
    """Return the number of readable images of each class."""
    readable = (inspection for inspection in images.inspections if inspection.error is None)
    counts = Counter(label for inspection in readable for label in inspection.labels)
    return {name: counts[label] for label, name in enumerate(class_names)}


def _facts(images: InspectedImages, counts: Mapping[str, int], size: tuple[int, int]) -> dict[str, Any]:
    small = images.smaller_than(size)
    return {
        "images": len(images.readable),
        "fewest_of_a_class": min(counts.values()),
        "most_of_a_class": max(counts.values()),
        "empty_classes": [name for name, count in counts.items() if not count],
        "unreadable": len(images.errors),
        "too_small": {"count": len(small), "first": small[:5]},
    }


def duplicates(train: InspectedImages, val: InspectedImages) -> list[str]:
    """Return the names of validation images that are byte for byte equal to a training image.

    Only files whose size occurs in both splits are read.
    """
    train_sizes = {inspection.size for inspection in train.inspections if not inspection.error}
    candidates = _of_sizes(val, train_sizes)
    val_sizes = {val.inspections[position].size for position in candidates}
    train_hashes = set(_hashes(train, _of_sizes(train, val_sizes)))
    pairs = zip(candidates, _hashes(val, candidates), strict=True)
    return [val.source.name(val.chosen[position]) for position, digest in pairs if digest in train_hashes]


def _of_sizes(images: InspectedImages, sizes: set[int]) -> list[int]:
    """Return the positions of the readable images whose files have one of these sizes."""
    return [
        position
        for position, inspection in enumerate(images.inspections)
        if not inspection.error and inspection.size in sizes
    ]


def _hashes(images: InspectedImages, positions: Iterable[int]) -> list[bytes]:
    def digest(index: int) -> bytes:
        with images.source.open(index) as file:
            return hashlib.sha256(file.read()).digest()

    return for_each(digest, [images.chosen[position] for position in positions], images.source)


def _count_notes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a note for each split in which classes have different numbers of images."""
    kinds = {"train": "training", "val": "validation"}
    ranges = {split: (min(by_class.values()), max(by_class.values())) for split, by_class in counts.items()}
    return [
        f"classes have {fewest:,} to {most:,} {kinds[split]} images"
        for split, (fewest, most) in ranges.items()
        if fewest != most
    ]


def _class_notes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    empty = {split: [name for name, count in by_class.items() if not count] for split, by_class in counts.items()}
    kinds = {"train": "training", "val": "validation"}
    return [
        f"classes without {kinds[split]} images: {first_few(names, NAMES_SHOWN)}"
        for split, names in empty.items()
        if names
    ]


def _note(problem: str, names: Sequence[str]) -> str:
    return f"{problem}: {len(names):,} ({first_few(names, NAMES_SHOWN)})"
