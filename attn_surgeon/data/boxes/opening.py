"""Open data for detection, whatever its format: training and validation images with boxes, checked."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from attn_surgeon.data.boxes.annotations import Annotations, SplitReaders
from attn_surgeon.data.boxes.checks import InspectedBoxes, inspect_boxes
from attn_surgeon.data.boxes.coco import coco_splits
from attn_surgeon.data.boxes.dataset import BoxImages, RandomView, as_lists, decoded_bytes
from attn_surgeon.data.boxes.demo import demo_box_splits
from attn_surgeon.data.boxes.voc import voc_splits
from attn_surgeon.data.boxes.yolo import yolo_splits
from attn_surgeon.data.checks import report_on
from attn_surgeon.data.images import NAMES_SHOWN, ImageData
from attn_surgeon.data.settings import BoxSettings
from attn_surgeon.data.splits import KEPT_BYTES, Splits, with_held_out
from attn_surgeon.data.subsets import balanced, held_out
from attn_surgeon.errors import DataError, first_few, option
from attn_surgeon.networks.demo.box_scenes import DEMO_BOXES
from attn_surgeon.networks.preprocessing import Preprocessing

READERS = (coco_splits, yolo_splits, voc_splits)
_LAYOUTS = "COCO (annotations/instances_train.json), Pascal VOC (annotations/*.xml), YOLO (data.yaml) or demo-boxes"


def box_splits(spec: str) -> SplitReaders:
    """Return a reader for each split of data with boxes; none where it is other data."""
    if spec == DEMO_BOXES:
        return demo_box_splits()
    root = Path(spec)
    if not root.exists():
        return {}
    return next((splits for splits in (reader(root) for reader in READERS) if splits), {})


def open_box_splits(spec: str, preprocessing: Preprocessing, settings: BoxSettings) -> Splits:
    """Open training and validation images with boxes; raise DataError where the classes do not match."""
    readers = _readers(spec)
    if "train" not in readers:
        raise DataError("there is no training split", spec, f"splits here: {', '.join(readers)}")
    if settings.val_split is None and settings.val_data is None and "val" not in readers:
        return with_held_out(lambda changed: open_box_splits(spec, preprocessing, changed), settings)
    if settings.val_split is not None and settings.val_data is not None:
        raise DataError("two validation sets", f"{option('val_split')} and {option('val_data')}", "leave one out")
    train, val = _both(readers, settings)
    if settings.limit is not None:
        train = train.subset(balanced([0] * len(train.images), settings.limit))
    # Validation images must be the same in each run and epoch, so the unreadable ones are found now, by decoding all.
    training = inspect_boxes(train, decode=False, max_bad=settings.max_bad)
    validation = inspect_boxes(val, decode=True, max_bad=settings.max_bad)
    _require_boxes(training, spec)
    _require_boxes(validation, spec)
    report = report_on(training.images, validation.images, train.class_names, (1, 1), settings.leaks, small="padded")
    notes = (*training.notes, *validation.notes, *report.notes)
    scaled = replace(preprocessing, longer_side=settings.longer_side or preprocessing.longer_side)
    return Splits(
        _data(training, scaled, keep=settings.workers == 0),
        _data(validation, scaled, keep=settings.workers == 0),
        RandomView(scaled) if settings.augment and spec != DEMO_BOXES else None,  # it mirrors images
        replace(report, notes=tuple(dict.fromkeys(notes))),
        collate=as_lists,
    )


def open_boxes(spec: str, split: str, preprocessing: Preprocessing, settings: BoxSettings) -> ImageData:
    """Open one split of data with boxes."""
    readers = _readers(spec)
    if split not in readers and list(readers) != ["train"]:
        raise DataError(f"no split {split!r}", spec, f"splits here: {', '.join(readers)}")
    annotations = readers.get(split, readers.get("train", next(iter(readers.values()))))()
    if settings.limit is not None:
        annotations = annotations.subset(balanced([0] * len(annotations.images), settings.limit))
    inspected = inspect_boxes(annotations, decode=settings.max_bad > 0, max_bad=settings.max_bad)
    _require_boxes(inspected, spec)
    data = _data(inspected, preprocessing, keep=False)
    return replace(data, notes=inspected.notes)


def _readers(spec: str) -> SplitReaders:
    readers = box_splits(spec)
    if not readers:
        what = "no images with boxes" if Path(spec).exists() else "no such folder"
        raise DataError(what, spec, f"expected {_LAYOUTS}")
    return readers


def _both(readers: SplitReaders, settings: BoxSettings) -> tuple[Annotations, Annotations]:
    """Return the training and the validation images, with the classes of the training images."""
    train = readers["train"]()
    if settings.val_split is not None:
        chosen = _drawn(len(train.images), settings.val_split, settings.seed)
        rest = sorted({*range(len(train.images))} - {*chosen})
        return train.subset(rest), replace(train.subset(chosen), notes=())
    own = _readers(settings.val_data) if settings.val_data is not None else readers
    val = (own.get("val") or next(iter(own.values())))()
    return train, _numbered_as(val, train.class_names)


def _drawn(count: int, fraction: float, seed: int) -> list[int]:
    if count < 2:
        raise DataError("a single image cannot be split", option("val_split"), "add images")
    return sorted(random.Random(f"split:{seed}").sample(range(count), held_out(fraction, count)))


def _numbered_as(annotations: Annotations, class_names: tuple[str, ...]) -> Annotations:
    """Return annotations with classes numbered as in `class_names`; raise DataError for boxes of other classes."""
    if unknown := sorted({*annotations.used_classes()} - {*class_names}):
        hint = "training and validation images must have the same classes"
        raise DataError(f"no training images of class {first_few(unknown, NAMES_SHOWN)}", "the validation images", hint)
    return annotations.named_as(class_names)


def _require_boxes(inspected: InspectedBoxes, spec: str) -> None:
    if inspected.annotations.crowd.all():
        raise DataError("there is no valid box in these images", spec, first_few(inspected.notes, 1))


def _data(inspected: InspectedBoxes, preprocessing: Preprocessing, *, keep: bool) -> ImageData:
    sizes: Sequence[tuple[int, int]] = [one.shape for one in inspected.images.inspections]
    keep = keep and decoded_bytes(sizes, preprocessing.channels) <= KEPT_BYTES
    dataset = BoxImages(inspected.annotations, preprocessing, keep=keep)
    return ImageData(dataset, inspected.annotations.class_names)
