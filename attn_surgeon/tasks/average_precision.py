"""Average precision as COCO defines it, over the images or over any resample of them.

Detections are matched to objects once, by pycocotools. A resample of the images, in which each occurs a number of
times, only changes how often a match counts, so its precisions and recalls are sums of the same matches.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from attn_surgeon.data.boxes.boxes import Boxes
from attn_surgeon.optional_dependencies import require_extra
from attn_surgeon.tasks.bootstrap import Counts
from attn_surgeon.tasks.detectors.base import Detections
from attn_surgeon.tasks.statistics import Floats

THRESHOLDS = 10  # of the IoU, from 0.50 to 0.95
RECALLS = np.linspace(0, 1, 101)
MOST_DETECTIONS = 100  # in an image
_CHUNK = 4_000_000  # numbers held at once
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ClassMatches:
    """The detections of one class, by decreasing score, and how they match the objects of the class in N images.

    Args:
        owners: (D,) the number of each detection's image.
        hits: (10, D) whether it matches an object at each IoU threshold.
        ignored: (10, D) whether it matches a region that is ignored.
        objects: (N,) the number of objects in each image.
    """

    owners: Integers
    hits: Mask
    ignored: Mask
    objects: Integers

    def precisions(self, counts: Counts) -> Floats:
        """Return the average precision (B, 10) at each threshold, in resamples with counts (B, N); NaN without objects.

        It is the mean over 101 recalls of the highest precision at that recall or a higher one.
        """
        step = max(1, _CHUNK // max(1, len(self.owners), counts.shape[1]))
        parts = [self._part(counts[start : start + step]) for start in range(0, len(counts), step)]
        return np.concatenate(parts)

    def _part(self, counts: Counts) -> Floats:
        counts = counts.astype(np.int64)
        objects, drawn = counts @ self.objects, counts[:, self.owners]
        needed = _needed(objects)
        found = np.empty((len(counts), THRESHOLDS))
        for threshold, (hits, ignored) in enumerate(zip(self.hits, self.ignored, strict=True)):
            if threshold == 0 or not np.array_equal(ignored, self.ignored[threshold - 1]):
                seen = (drawn * ~ignored).cumsum(1)
            correct = drawn[:, hits].cumsum(1)
            highest = np.maximum.accumulate((correct / np.maximum(seen[:, hits], 1))[:, ::-1], 1)[:, ::-1]
            padded = np.pad(highest, ((0, 0), (0, 1)))
            found[:, threshold] = np.take_along_axis(padded, _first(correct, needed), 1).mean(1)
        found[objects == 0] = np.nan
        return found

    def of_image(self, index: int) -> ClassMatches:
        """Return the matches in one image."""
        own = self.owners == index
        return ClassMatches(
            np.zeros(own.sum(), dtype=np.int64), self.hits[:, own], self.ignored[:, own], self.objects[[index]]
        )


@dataclass(frozen=True)
class Matches:
    """The matches of all classes in the same images."""

    classes: tuple[ClassMatches, ...]

    @property
    def images(self) -> int:
        """The number of images."""
        return len(self.classes[0].objects)

    def precisions(self, counts: Counts | None = None) -> Floats:
        """Return the average precision (B, K, 10) by class and threshold in resamples with counts (B, N).

        By default of the images themselves.
        """
        drawn = np.ones((1, self.images)) if counts is None else counts
        return np.stack([own.precisions(drawn) for own in self.classes], 1)

    def resampled(self, counts: Counts) -> Floats:
        """Return the mAP (B,) of resamples with counts (B, N); NaN for those without objects."""
        return mean_known(self.precisions(counts).mean(2))

    def by_image(self) -> Floats:
        """Return the mAP (N,) of each image alone, over the classes in it; NaN without objects."""
        found = np.full((self.images, len(self.classes)), np.nan)
        for number, own in enumerate(self.classes):
            for index in own.objects.nonzero()[0].tolist():
                found[index, number] = own.of_image(index).precisions(np.ones((1, 1))).mean()
        return mean_known(found)


def mean_known(values: Floats) -> Floats:
    """Return the mean (B,) of values (B, K) without NaN; NaN where all are."""
    known = ~np.isnan(values)
    sums, counts = np.where(known, values, 0).sum(1), known.sum(1)
    return np.where(counts > 0, sums / np.maximum(counts, 1), np.nan)


def match_boxes(truth: Sequence[Boxes], found: Sequence[Detections], classes: int) -> Matches:
    """Match detections to objects, image by image; at most the 100 of highest score in an image count.

    Raises:
        SurgeonError: pycocotools is not installed.
    """
    require_extra("detection", "pycocotools", what="average precision")
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(io.StringIO()):  # pycocotools reports its progress
        evaluation = COCOeval(
            _coco(_objects(truth), len(truth), classes), _coco(_found(found), len(found), classes), "bbox"
        )
        evaluation.params.maxDets = [MOST_DETECTIONS]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
    by_class = [evaluation.evalImgs[start : start + len(truth)] for start in range(0, classes * len(truth), len(truth))]
    return Matches(tuple(map(_of_class, by_class)))


def _of_class(images: Sequence[dict[str, Any] | None]) -> ClassMatches:
    """Return the matches of one class from pycocotools' result for each image, None where it is in none."""
    known = [(index, image) for index, image in enumerate(images) if image is not None]
    objects = np.zeros(len(images), dtype=np.int64)
    for index, image in known:
        objects[index] = np.count_nonzero(np.equal(image["gtIgnore"], 0))
    scores = np.concatenate([np.zeros(0), *(image["dtScores"] for _, image in known)])
    owners = np.repeat([index for index, _ in known], [len(image["dtScores"]) for _, image in known]).astype(np.int64)
    order = np.argsort(-scores, kind="mergesort")
    nothing = np.zeros((THRESHOLDS, 0), dtype=bool)
    hits = np.concatenate([nothing, *(image["dtMatches"] > 0 for _, image in known)], 1)[:, order]
    ignored = np.concatenate([nothing, *(image["dtIgnore"] > 0 for _, image in known)], 1)[:, order]
    return ClassMatches(owners[order], hits & ~ignored, ignored, objects)


def _coco(annotations: Iterator[dict[str, Any]], images: int, classes: int) -> Any:
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = {
        "images": [{"id": index} for index in range(images)],
        "categories": [{"id": label} for label in range(classes)],
        # a match is stored as the id of the object, and 0 is none
        "annotations": [{"id": number, **item} for number, item in enumerate(annotations, 1)],
    }
    coco.createIndex()
    return coco


def _objects(truth: Sequence[Boxes]) -> Iterator[dict[str, Any]]:
    for index, own in enumerate(truth):
        for box, label, crowd in zip(own.boxes.double().tolist(), own.labels.tolist(), own.crowd.tolist(), strict=True):
            yield _box(index, box, label) | {"iscrowd": int(crowd)}


def _found(found: Sequence[Detections]) -> Iterator[dict[str, Any]]:
    for index, own in enumerate(found):
        for box, label, score in zip(
            own.boxes.double().tolist(), own.labels.tolist(), own.scores.tolist(), strict=True
        ):
            yield _box(index, box, label) | {"score": score, "iscrowd": 0}


def _box(index: int, box: Sequence[float], label: int) -> dict[str, Any]:
    left, top, right, bottom = box
    sides = right - left, bottom - top
    return {"image_id": index, "category_id": label, "bbox": [left, top, *sides], "area": sides[0] * sides[1]}


def _needed(objects: Integers) -> Integers:
    """Return how many objects (B, 101) must be found for each recall, of a number of objects (B,)."""
    total = np.maximum(objects, 1)[:, None]
    needed = np.ceil(RECALLS * total).astype(np.int64)
    # the smallest number whose quotient, rounded as a floating-point number, is the recall
    needed -= (needed > 0) & ((needed - 1) / total >= RECALLS)
    return needed + (needed / total < RECALLS)


def _first(correct: Integers, needed: Integers) -> Integers:
    """Return the first place (B, R) in each row of ascending numbers (B, J) that is at least the needed one (B, R)."""
    rows, places = np.arange(len(correct))[:, None], correct.shape[1]
    apart = int(max(correct.max(initial=0), needed.max(initial=0))) + 1
    flat = np.searchsorted((correct + rows * apart).ravel(), (needed + rows * apart).ravel())
    return np.asarray(flat.reshape(needed.shape) - rows * places).clip(0, places)
