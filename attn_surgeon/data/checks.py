"""What is wrong with data, found before training starts: unreadable images, leaks, classes without images."""

from __future__ import annotations

import hashlib
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import SEEK_END
from typing import Any, TypeVar

from PIL import Image

from attn_surgeon.data.images import UNREADABLE, ImageData, ImageSource, Pictures, Selected, some, unreadable
from attn_surgeon.errors import DataError, ImageError, option

THREADS = 8
BIG = 2**15  # bytes: below, threads wait for one another longer than for the files
SAMPLED = 20  # images whose size stands for that of all
MUCH_SMALLER = 2.0  # factor of enlargement from which a network trained on small images is likely
LEAKED = "validation images that are byte for byte among the training images"
LEFT_OUT = "unreadable images, left out"
T = TypeVar("T")


@dataclass(frozen=True)
class DataReport:
    """What was found in data: plain facts, notes for people, and an error for each unreadable image."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unreadable: tuple[ImageError, ...] = ()


@dataclass(frozen=True)
class Inspection:
    """What one image's file holds: its bytes, its (width, height) and the labels in it, or its error."""

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
        return [index for index, found in zip(self.chosen, self.inspections, strict=True) if found.error is None]

    @property
    def errors(self) -> tuple[ImageError, ...]:
        """The errors of the others."""
        return tuple(found.error for found in self.inspections if found.error is not None)

    def smaller_than(self, size: tuple[int, int]) -> list[str]:
        """Return the names of the images with a side shorter than that of `size` (H, W)."""
        pairs = zip(self.chosen, self.inspections, strict=True)
        small = (
            index
            for index, found in pairs
            if not found.error and (found.shape[1] < size[0] or found.shape[0] < size[1])
        )
        return [self.source.name(index) for index in small]


def inspect_images(pictures: Pictures, chosen: Sequence[int], *, decode: bool, max_bad: float) -> InspectedImages:
    """Inspect the heads of the chosen images, or decode each.

    Raises:
        DataError: if more than the fraction `max_bad` of them is unreadable.
    """

    def labelled(index: int) -> Inspection:
        return replace(inspect_file(pictures.source, index, decode=decode), labels=(pictures.labels[index],))

    images = InspectedImages(pictures.source, chosen, for_each(labelled, chosen, pictures.source))
    require_readable(images, max_bad)
    return images


def inspect_file(source: ImageSource, index: int, *, decode: bool) -> Inspection:
    """Inspect the head of one image, or decode it."""
    try:
        with source.open(index) as file:
            size = file.seek(0, SEEK_END)
            file.seek(0)
            with Image.open(file) as image:
                (image.load if decode else image.verify)()
                return Inspection(size, image.size)
    except UNREADABLE as error:
        return Inspection(error=unreadable(source.name(index), error))


def require_readable(images: InspectedImages, max_bad: float) -> None:
    """Raise DataError where more than the fraction `max_bad` of the images is unreadable."""
    bad, count = images.errors, len(images.chosen)
    if len(bad) > max_bad * count:
        what = f"{len(bad)} of {count} images are unreadable, more than {option('max_bad', f'{max_bad:g}')} allows"
        raise DataError(
            what, some([error.where for error in bad]), f"repair or remove them, or raise {option('max_bad')}"
        )


def for_each(function: Callable[[int], T], chosen: Sequence[int], source: ImageSource) -> list[T]:
    """Apply a function to images, with threads where files are so big that these help."""
    first = [inspect_file(source, index, decode=False).size for index in chosen[:20]]
    if sum(first) < BIG * len(first):
        return list(map(function, chosen))
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(function, chosen))


def without_unreadable(data: ImageData, max_bad: float) -> tuple[ImageData, tuple[str, ...]]:
    """Decode each image once; return the data without the unreadable ones, and notes on them.

    With `max_bad` 0 no image is inspected: evaluating raises the error of the first that is unreadable.
    """
    pictures = data.dataset
    if not max_bad or not isinstance(pictures, Pictures):
        return data, ()
    images = inspect_images(pictures, range(len(pictures)), decode=True, max_bad=max_bad)
    if not images.errors:
        return data, ()
    labels = [pictures.labels[index] for index in images.readable]
    left = Pictures(Selected(pictures.source, images.readable), pictures.transform, labels)
    return ImageData(left, data.class_names), (_note(LEFT_OUT, [error.where for error in images.errors]),)


def enlargement_notes(sizes: Iterable[tuple[int, int]], size: tuple[int, int], remedy: str) -> tuple[str, ...]:
    """Return a note where images (width, height) are much smaller than a network's input (H, W).

    Networks trained on small images, at which an input size of 224 was assumed, lose most of their accuracy on
    enlarged ones.
    """
    known = list(sizes)
    if not known:
        return ()
    width, height = (int(statistics.median(side)) for side in zip(*known, strict=True))
    if min(size[0] / max(height, 1), size[1] / max(width, 1)) < MUCH_SMALLER:
        return ()
    side = option("size", str(height) if height == width else f"{height}x{width}")
    what = f"the images are {height}×{width} and are enlarged to the network's input size {size[0]}×{size[1]}"
    return (f"{what}; if it was trained on images of their size, {remedy} with {side}",)


def sampled_sizes(pictures: Pictures) -> list[tuple[int, int]]:
    """Return the (width, height) of a few images, evenly over the dataset."""
    step = max(1, len(pictures) // SAMPLED)
    found = (inspect_file(pictures.source, index, decode=False) for index in range(0, len(pictures), step))
    return [one.shape for one in found if one.error is None]


def report_on(
    train: InspectedImages,
    val: InspectedImages,
    class_names: tuple[str, ...],
    size: tuple[int, int],
    leaks: str,
    small: str = "enlarged",
) -> DataReport:
    """Report on data for a network of input `size` (H, W); `small` says what becomes of smaller images.

    Raises:
        DataError: if validation images are among the training images and `leaks` is `refuse`.
    """
    splits = {"train": train, "val": val}
    counts = {name: _counts(images, class_names) for name, images in splits.items()}
    facts = {name: _facts(images, counts[name], size) for name, images in splits.items()}
    same = duplicates(train, val)
    if same and leaks == "refuse":
        hint = f"remove them from one of the two, or accept them: {option('leaks', 'warn')}"
        raise DataError(f"{LEAKED}: {len(same):,}", some(same), hint)
    notes = [*_count_notes(counts), *_class_notes(counts)]
    for what, names in {
        LEAKED: same,
        LEFT_OUT: [error.where for error in (*train.errors, *val.errors)],
        f"images smaller than {size[0]}×{size[1]}, {small}": train.smaller_than(size) + val.smaller_than(size),
    }.items():
        notes += [_note(what, names)] if names else []
    if small == "enlarged":
        shapes = [found.shape for found in train.inspections if found.error is None]
        notes += enlargement_notes(shapes, size, "insert the blocks again")
    document = {"classes": len(class_names), **facts, "duplicates": {"count": len(same), "first": same[:5]}}
    return DataReport(document, tuple(notes), (*train.errors, *val.errors))


def _counts(images: InspectedImages, class_names: tuple[str, ...]) -> dict[str, int]:
    """Count the readable images that show each class."""
    found = Counter(label for one in images.inspections if one.error is None for label in one.labels)
    return {name: found[label] for label, name in enumerate(class_names)}


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
    """Return the names of validation images whose bytes are those of a training image.

    Only files of equal length are read.
    """
    sizes = {found.size for found in train.inspections if not found.error}
    suspects = _of_sizes(val, sizes)
    sizes = {val.inspections[place].size for place in suspects}
    known = set(_hashes(train, _of_sizes(train, sizes)))
    found = zip(suspects, _hashes(val, suspects), strict=True)
    return [val.source.name(val.chosen[place]) for place, digest in found if digest in known]


def _of_sizes(images: InspectedImages, sizes: set[int]) -> list[int]:
    return [place for place, found in enumerate(images.inspections) if not found.error and found.size in sizes]


def _hashes(images: InspectedImages, places: Iterable[int]) -> list[bytes]:
    def digest(index: int) -> bytes:
        with images.source.open(index) as file:
            return hashlib.sha256(file.read()).digest()

    return for_each(digest, [images.chosen[place] for place in places], images.source)


def _count_notes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return notes where classes differ in size."""
    kinds = {"train": "training", "val": "validation"}
    return [
        f"classes have {min(found.values()):,} to {max(found.values()):,} {kinds[name]} images"
        for name, found in counts.items()
        if min(found.values()) != max(found.values())
    ]


def _class_notes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    empty = {name: [label for label, count in found.items() if not count] for name, found in counts.items()}
    kinds = {"train": "training", "val": "validation"}
    return [f"classes without {kinds[name]} images: {some(names)}" for name, names in empty.items() if names]


def _note(what: str, names: Sequence[str]) -> str:
    return f"{what}: {len(names):,} ({some(names)})"
