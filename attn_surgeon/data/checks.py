"""What is wrong with data, found before training starts: unreadable images, leaks, classes without images."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from io import SEEK_END
from typing import Any, TypeVar

from PIL import Image

from attn_surgeon.data.images import UNREADABLE, ImageData, Pictures, Selected, Source, some, unreadable
from attn_surgeon.errors import DataError, ImageError

THREADS = 8
BIG = 2**15  # bytes: below, threads wait for one another longer than for the files
LEAKED = "trained on and measured on, byte for byte"
LEFT_OUT = "unreadable, so left out"
T = TypeVar("T")


@dataclass(frozen=True)
class Report:
    """Hold what was found: plain facts, notes for people, and an error for each image that cannot be read."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    unreadable: tuple[ImageError, ...] = ()


@dataclass(frozen=True)
class Look:
    """Hold what one image's file says: its bytes, its (width, height) and the labels in it, or the error it gave."""

    size: int = 0
    shape: tuple[int, int] = (0, 0)
    labels: tuple[int, ...] = ()
    error: ImageError | None = None


@dataclass(frozen=True)
class Part:
    """Hold the chosen images of a source, and what looking at each gave."""

    source: Source
    chosen: Sequence[int]
    looks: Sequence[Look]

    @property
    def readable(self) -> list[int]:
        """List the chosen images that can be read."""
        return [index for index, look in zip(self.chosen, self.looks, strict=True) if look.error is None]

    @property
    def errors(self) -> tuple[ImageError, ...]:
        """List the errors of the others."""
        return tuple(look.error for look in self.looks if look.error is not None)


def look_at(pictures: Pictures, chosen: Sequence[int], *, whole: bool, max_bad: float) -> Part:
    """Look at the chosen images, at their heads only or decoding each as a `whole`.

    Raises DataError where more than the share `max_bad` of them cannot be read.
    """

    def labelled(index: int) -> Look:
        return replace(look(pictures.source, index, whole=whole), labels=(pictures.labels[index],))

    part = Part(pictures.source, chosen, each(labelled, chosen, pictures.source))
    require_readable(part, max_bad)
    return part


def look(source: Source, index: int, *, whole: bool) -> Look:
    """Look at the head of one image, or decode it as a `whole`."""
    try:
        with source.open(index) as file:
            size = file.seek(0, SEEK_END)
            file.seek(0)
            with Image.open(file) as image:
                (image.load if whole else image.verify)()
                return Look(size, image.size)
    except UNREADABLE as error:
        return Look(error=unreadable(source.name(index), error))


def require_readable(part: Part, max_bad: float) -> None:
    """Raise DataError where more than the share `max_bad` of a part cannot be read."""
    bad, count = part.errors, len(part.chosen)
    if len(bad) > max_bad * count:
        what = f"{len(bad)} of {count} images cannot be read, more than --max-bad {max_bad:g} allows"
        raise DataError(what, some([error.where for error in bad]), "repair or remove them, or raise --max-bad")


def each(function: Callable[[int], T], chosen: Sequence[int], source: Source) -> list[T]:
    """Apply a function to images, with threads where files are so big that these help."""
    first = [look(source, index, whole=False).size for index in chosen[:20]]
    if sum(first) < BIG * len(first):
        return list(map(function, chosen))
    with ThreadPoolExecutor(THREADS) as threads:
        return list(threads.map(function, chosen))


def without_unreadable(data: ImageData, max_bad: float) -> tuple[ImageData, tuple[str, ...]]:
    """Decode each image once and leave out those that cannot be read, which notes say; with 0, look at none."""
    pictures = data.dataset
    if not max_bad or not isinstance(pictures, Pictures):
        return data, ()
    part = look_at(pictures, range(len(pictures)), whole=True, max_bad=max_bad)
    if not part.errors:
        return data, ()
    labels = [pictures.labels[index] for index in part.readable]
    left = Pictures(Selected(pictures.source, part.readable), pictures.transform, labels)
    return ImageData(left, data.class_names), (_note(LEFT_OUT, [error.where for error in part.errors]),)


def report(
    train: Part, val: Part, class_names: tuple[str, ...], size: tuple[int, int], leaks: str, small: str = "enlarged"
) -> Report:
    """Report on data for a network of input `size` (H, W); raise DataError where `leaks` is `refuse` and there are.

    `small` says what becomes of images that are smaller.
    """
    counts = {name: _counts(part, class_names) for name, part in (("train", train), ("val", val))}
    parts = {name: _part_facts(part, counts[name], size) for name, part in (("train", train), ("val", val))}
    same = duplicates(train, val)
    if same and leaks == "refuse":
        raise DataError(f"{LEAKED}: {len(same):,}", some(same), "remove them from one part, or say --leaks warn")
    facts = {"classes": len(class_names), **parts, "duplicates": {"count": len(same), "first": same[:5]}}
    few = {f"smaller than {size[0]}×{size[1]}, so {small}": _small(train, size) + _small(val, size)}
    notes = (*_count_notes(counts), *_class_notes(counts), *_image_notes(train, val, same, few))
    return Report(facts, notes, (*train.errors, *val.errors))


def _counts(part: Part, class_names: tuple[str, ...]) -> dict[str, int]:
    """Count the readable images that show each class."""
    found = Counter(label for look in part.looks if look.error is None for label in look.labels)
    return {name: found[label] for label, name in enumerate(class_names)}


def _part_facts(part: Part, counts: Mapping[str, int], size: tuple[int, int]) -> dict[str, Any]:
    small = _small(part, size)
    return {
        "images": len(part.readable),
        "fewest_of_a_class": min(counts.values()),
        "most_of_a_class": max(counts.values()),
        "empty_classes": [name for name, count in counts.items() if not count],
        "unreadable": len(part.errors),
        "too_small": {"count": len(small), "first": small[:5]},
    }


def _small(part: Part, size: tuple[int, int]) -> list[str]:
    """Name the images with a side shorter than the network's."""
    pairs = zip(part.chosen, part.looks, strict=True)
    small = (index for index, look in pairs if not look.error and (look.shape[1] < size[0] or look.shape[0] < size[1]))
    return [part.source.name(index) for index in small]


def duplicates(train: Part, val: Part) -> list[str]:
    """Name the images of `val` whose bytes are those of one of `train`; only those of equal length are read."""
    sizes = {look.size for look in train.looks if not look.error}
    suspects = _of_sizes(val, sizes)
    sizes = {val.looks[place].size for place in suspects}
    known = set(_hashes(train, _of_sizes(train, sizes)))
    found = zip(suspects, _hashes(val, suspects), strict=True)
    return [val.source.name(val.chosen[place]) for place, digest in found if digest in known]


def _of_sizes(part: Part, sizes: set[int]) -> list[int]:
    return [place for place, look in enumerate(part.looks) if not look.error and look.size in sizes]


def _hashes(part: Part, places: Iterable[int]) -> list[bytes]:
    def digest(index: int) -> bytes:
        with part.source.open(index) as file:
            return hashlib.sha256(file.read()).digest()

    return each(digest, [part.chosen[place] for place in places], part.source)


def _count_notes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Say where classes differ in size."""
    said = {"train": "to train on", "val": "to measure on"}
    return [
        f"classes have {min(found.values()):,} to {max(found.values()):,} images {said[part]}"
        for part, found in counts.items()
        if min(found.values()) != max(found.values())
    ]


def _class_notes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    empty = {part: [name for name, count in found.items() if not count] for part, found in counts.items()}
    said = {"train": "classes without an image to train on", "val": "classes without an image to measure on"}
    return [f"{said[part]}: {some(names)}" for part, names in empty.items() if names]


def _image_notes(train: Part, val: Part, same: Sequence[str], small: Mapping[str, Sequence[str]]) -> list[str]:
    notes = {
        LEAKED: same,
        LEFT_OUT: [error.where for error in (*train.errors, *val.errors)],
        **small,
    }
    return [_note(what, names) for what, names in notes.items() if names]


def _note(what: str, names: Sequence[str]) -> str:
    """Say what holds for how many images, and name the first."""
    return f"{what}: {len(names):,} {'image' if len(names) == 1 else 'images'}, {some(names)}"
