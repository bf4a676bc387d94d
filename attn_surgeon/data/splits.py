"""The training and validation images of a fine-tune, opened and checked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from attn_surgeon.data import processes
from attn_surgeon.data.augment import Augment, augmentation
from attn_surgeon.data.checks import DataReport, inspect_images, report_on
from attn_surgeon.data.images import ImageData, Pictures, relabelled, some
from attn_surgeon.data.opening import has_splits, open_dataset
from attn_surgeon.data.settings import DataSettings
from attn_surgeon.data.subsets import ImageSubset, balanced, labels_of, stratified
from attn_surgeon.data.substitutes import BadImages, Substituting
from attn_surgeon.errors import DataError, option
from attn_surgeon.networks.preprocessing import Preprocessing

KEPT_BYTES = 2**28
VAL_SPLIT = 0.1
_S = TypeVar("_S", bound=DataSettings)


@dataclass(frozen=True)
class Splits:
    """Training and validation images, how the former are augmented, and what was found in both.

    `draws` are the indices of the training images that make an epoch, where that is not each of them once.
    """

    train: ImageData
    val: ImageData
    augment: Augment | None = None
    report: DataReport = field(default_factory=DataReport)
    draws: tuple[int, ...] | None = None


def open_labelled_splits(spec: str, preprocessing: Preprocessing, settings: DataSettings) -> Splits:
    """Open images with a class each; raise DataError where training and validation images do not match."""
    if settings.val_split is None and settings.val_data is None and not has_splits(spec, settings):
        return with_held_out(lambda changed: open_labelled_splits(spec, preprocessing, changed), settings)
    if settings.val_split is not None and settings.val_data is not None:
        raise DataError("two validation sets", f"{option('val_split')} and {option('val_data')}", "leave one out")
    if settings.download and processes.count() > 1:
        processes.by_first(lambda: _download(spec, preprocessing, settings))
    train = open_dataset(spec, "train", preprocessing, settings)
    labels = labels_of(train.dataset)
    kept = list(range(len(labels)))
    if settings.val_split is None:
        val = _same_classes(train, open_dataset(settings.val_data or spec, "val", preprocessing, settings))
        held = list(range(len(cast(Any, val.dataset))))
    else:
        val, held = train, stratified(labels, settings.val_split, settings.seed)
        kept = sorted(set(kept) - set(held))
    if settings.limit is not None:
        kept = [kept[index] for index in balanced([labels[index] for index in kept], settings.limit)]
    return _checked(train, kept, val, held, preprocessing, settings)


def with_held_out(opened: Callable[[_S], Splits], settings: _S) -> Splits:
    """Open data that has no validation split with some of it held out; a note says so."""
    splits = opened(replace(settings, val_split=VAL_SPLIT))
    options = f"{option('val_split')}, {option('val_data')}"
    note = f"the data has no validation split: {VAL_SPLIT:.0%} of it is held out ({options})"
    return replace(splits, report=replace(splits.report, notes=(note, *splits.report.notes)))


def _download(spec: str, preprocessing: Preprocessing, settings: DataSettings) -> None:
    """Open the data in one process first, so that several do not download the same files at once."""
    open_dataset(spec, "train", preprocessing, settings)
    if settings.val_split is None:
        open_dataset(settings.val_data or spec, "val", preprocessing, settings)


def _same_classes(train: ImageData, val: ImageData) -> ImageData:
    """Number the classes of `val` as those of `train`; it may lack some, but have none without training images."""
    val = relabelled(val, train.class_names)
    unknown = {*labels_of(val.dataset)} - {*labels_of(train.dataset)}
    if unknown:
        names = some([train.class_names[label] for label in sorted(unknown)])
        hint = "training and validation images must have the same classes"
        raise DataError(f"no training image of class {names}", "the validation images", hint)
    return val


def _checked(
    train: ImageData,
    kept: list[int],
    val: ImageData,
    held: list[int],
    preprocessing: Preprocessing,
    settings: DataSettings,
) -> Splits:
    """Leave out unreadable images and report on the rest; the packaged demo datasets need no check."""
    found, augment, keep = DataReport(), None, settings.workers == 0
    if isinstance(train.dataset, Pictures) and isinstance(val.dataset, Pictures):
        training = inspect_images(train.dataset, kept, decode=False, max_bad=settings.max_bad)
        # validation images must be the same for each arm and epoch, so these are decoded once beforehand
        validation = inspect_images(val.dataset, held, decode=True, max_bad=settings.max_bad)
        found = report_on(training, validation, train.class_names, preprocessing.size, settings.leaks)
        kept, held = training.readable, validation.readable
        augment = augmentation(preprocessing) if settings.augment else None
    return Splits(_subset(train, kept, preprocessing, keep), _subset(val, held, preprocessing, keep), augment, found)


def _subset(data: ImageData, indices: list[int], preprocessing: Preprocessing, keep: bool) -> ImageData:
    size = 4 * preprocessing.channels * preprocessing.size[0] * preprocessing.size[1]
    keep = keep and size * len(indices) <= KEPT_BYTES
    return ImageData(ImageSubset(data.dataset, indices, keep=keep), data.class_names)


def with_substitutes(splits: Splits, folder: Path, max_bad: float) -> Splits:
    """List the unreadable images in a run folder, and substitute those that only decoding in training finds."""
    facts = splits.report.facts
    if not facts:  # nothing is read from files
        return splits
    train = facts["train"]["images"] + facts["train"]["unreadable"]
    bad = BadImages(folder, int(max_bad * train) + facts["val"]["unreadable"])
    if splits.report.unreadable and processes.is_first():
        bad.add(splits.report.unreadable)
    return replace(splits, train=ImageData(Substituting(splits.train.dataset, bad), splits.train.class_names))
