"""Check the boxes of a split: numbers that are not finite, boxes outside their image, empty or inverted ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from attn_surgeon.data.boxes.annotations import Annotations, Column, problem_note
from attn_surgeon.data.checks import InspectedImages, for_each, inspect_file, require_readable
from attn_surgeon.data.folders import Files

TOLERANCE = 1.0  # pixels by which a box may be outside without a note, since tools round differently


@dataclass(frozen=True)
class InspectedBoxes:
    """The inspected images of a split, and the valid boxes of the readable ones, in pixels."""

    images: InspectedImages
    annotations: Annotations
    notes: tuple[str, ...]


def inspect_boxes(annotations: Annotations, *, decode: bool, max_bad: float) -> InspectedBoxes:
    """Inspect images, by their headers or by decoding them, and clip and drop boxes.

    Raises:
        DataError: more than the fraction `max_bad` of the images is unreadable.
    """
    count = len(annotations.images)
    source = Files(annotations.images, [0] * count)
    found = for_each(lambda index: inspect_file(source, index, decode=decode), range(count), source)
    images = InspectedImages(source, range(count), found)
    require_readable(images, max_bad)
    sizes = np.array([inspection.shape for inspection in found], dtype=np.float64).reshape(-1, 2)
    valid, notes = _valid(annotations, sizes)
    labels = [tuple(sorted({*valid.labels[valid.of(index)].tolist()})) for index in range(count)]
    images = replace(images, inspections=[replace(one, labels=own) for one, own in zip(found, labels, strict=True)])
    return InspectedBoxes(images, valid.subset(images.readable), (*annotations.notes, *notes))


def _valid(annotations: Annotations, sizes: Column) -> tuple[Annotations, list[str]]:
    """Return the annotations in pixels with valid boxes, clipped to their images (width, height), and notes."""
    limits = np.tile(sizes, 2)[annotations.owners]
    boxes = annotations.boxes * limits if annotations.relative else annotations.boxes
    finite = np.isfinite(boxes).all(1)
    with np.errstate(invalid="ignore"):
        inverted = finite & (boxes[:, 2:] < boxes[:, :2]).any(1)
        clipped = np.clip(boxes, 0, limits)
        outside = finite & ~inverted & (np.abs(clipped - boxes) > TOLERANCE).any(1)
        empty = finite & ~inverted & (clipped[:, 2:] <= clipped[:, :2]).any(1)
    readable = limits.min(1, initial=np.inf) > 0
    problems = {
        "boxes with numbers that are not finite, left out": ~finite,
        "boxes whose corners are swapped, left out": inverted & readable,
        "boxes without an area in the image, left out": empty & readable,
        "boxes that reach beyond the image, clipped": outside & ~empty & readable,
    }
    notes = [note for what, mask in problems.items() for note in problem_note(what, _names(annotations, mask))]
    kept = replace(annotations, boxes=clipped, relative=False, sizes=sizes).kept(finite & ~inverted & ~empty & readable)
    return kept, notes


def _names(annotations: Annotations, mask: Column) -> Sequence[str]:
    """Return the name of the image of each box that a mask (M,) chooses."""
    return [annotations.images[index].name for index in annotations.owners[mask].tolist()]
