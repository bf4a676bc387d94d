"""The annotations of a split as its files have them, in columns, so that those of many images need little memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from attn_surgeon.data.images import ImageFile
from attn_surgeon.errors import first_few

Column = npt.NDArray[Any]
SPLIT_NAMES = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
_SHOWN = 5


@dataclass(frozen=True)
class Annotations:
    """The image files of a split and their M boxes.

    Args:
        images: the image files.
        class_names: the names of the classes.
        owners: (M,) the number of each box's image, in ascending order.
        boxes: (M, 4) x1 y1 x2 y2, in pixels of the image file or, where `relative`, as fractions of its sides.
        labels: (M,) class numbers.
        crowd: (M,) whether a region is ignored in evaluation.
        relative: whether boxes are fractions.
        sizes: (N, 2) the width and height of each image, once it was inspected.
        notes: remarks for the user.
    """

    images: Sequence[ImageFile]
    class_names: tuple[str, ...]
    owners: Column
    boxes: Column
    labels: Column
    crowd: Column
    relative: bool = False
    sizes: Column | None = None
    notes: tuple[str, ...] = ()

    def of(self, index: int) -> slice:
        """Return the slice of the columns that has the boxes of an image."""
        return slice(*np.searchsorted(self.owners, (index, index + 1)).tolist())

    def kept(self, mask: Column) -> Annotations:
        """Return the annotations with the boxes that a mask (M,) chooses."""
        columns = {name: getattr(self, name)[mask] for name in ("owners", "boxes", "labels", "crowd")}
        return replace(self, **columns)

    def subset(self, chosen: Sequence[int]) -> Annotations:
        """Return the annotations of the chosen images, in ascending order."""
        numbers = np.full(len(self.images), -1)
        numbers[list(chosen)] = np.arange(len(chosen))
        kept, sizes = self.kept(numbers[self.owners] >= 0), None if self.sizes is None else self.sizes[list(chosen)]
        images = [self.images[index] for index in chosen]
        return replace(kept, images=images, owners=numbers[kept.owners], sizes=sizes)

    def used_classes(self) -> list[str]:
        """Return the names of the classes that have boxes."""
        return [self.class_names[label] for label in np.unique(self.labels).tolist()]

    def named_as(self, class_names: Sequence[str]) -> Annotations:
        """Return the annotations with classes numbered as in `class_names`, among which are all that have boxes."""
        known = {name: number for number, name in enumerate(class_names)}
        lookup = np.array([known.get(name, -1) for name in (*self.class_names, "")], dtype=np.int64)
        return replace(self, class_names=tuple(class_names), labels=lookup[self.labels])


SplitReaders = Mapping[str, Callable[[], Annotations]]  # a function that reads the annotations, by the split's name


def in_columns(
    images: Sequence[ImageFile], class_names: tuple[str, ...], rows: Iterable[Sequence[float]]
) -> Annotations:
    """Return the annotations of rows (number of the image, x1, y1, x2, y2, class number, crowd)."""
    table = np.array(list(rows), dtype=np.float64).reshape(-1, 7)
    table = table[table[:, 0].argsort(kind="stable")]
    owners, labels = table[:, 0].astype(np.int64), table[:, 5].astype(np.int64)
    return Annotations(images, class_names, owners, table[:, 1:5], labels, table[:, 6] > 0)


def problem_note(problem: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return a note with the number of the files that have a problem and the first names; none without such files."""
    return (f"{problem}: {len(names):,} ({first_few(names, _SHOWN)})",) if names else ()
