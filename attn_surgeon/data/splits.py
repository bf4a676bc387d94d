"""Open and check the training and validation splits for a fine-tune."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar, cast

from attn_surgeon.data import distributed
from attn_surgeon.data.augment import Augment, augmentation
from attn_surgeon.data.checks import DataReport, inspect_images, report_on
from attn_surgeon.data.images import NAMES_SHOWN, ImageData, Pictures, relabelled
from attn_surgeon.data.opening import has_splits, open_dataset
from attn_surgeon.data.settings import DataSettings
from attn_surgeon.data.subsets import ImageSubset, balanced, labels_of, stratified
from attn_surgeon.data.unreadable_images import BadImages, Substituting
from attn_surgeon.errors import DataError, first_few, option
from attn_surgeon.networks.preprocessing import Preprocessing

KEPT_BYTES = 2**28  # the largest dataset that is kept in memory
VAL_SPLIT = 0.1
_S = TypeVar("_S", bound=DataSettings)


@dataclass(frozen=True)
class Splits:
    """Training and validation images.

    Args:
        train: the training images.
        val: the validation images.
        augment: the augmentation of training images, if any.
        report: the result of the checks.
        draws: the indices of the training images of an epoch; by default, each image once.
        collate: makes a batch of items; by default, tensors are stacked.
    """

    train: ImageData
    val: ImageData
    augment: Augment | None = None
    report: DataReport = field(default_factory=DataReport)
    draws: tuple[int, ...] | None = None
    collate: Callable[[Any], Any] | None = None


def open_labelled_splits(spec: str, preprocessing: Preprocessing, settings: DataSettings) -> Splits:
    """Open labelled images; raise DataError where training and validation images have different classes."""
    if settings.val_split is None and settings.val_data is None and not has_splits(spec, settings):
        return with_held_out(lambda changed: open_labelled_splits(spec, preprocessing, changed), settings)
    if settings.val_split is not None and settings.val_data is not None:
        raise DataError("two validation sets", f"{option('val_split')} and {option('val_data')}", "leave one out")
    if settings.download and distributed.world_size() > 1:
        distributed.run_on_first(lambda: _download(spec, preprocessing, settings))
    train = open_dataset(spec, "train", preprocessing, settings)
    labels = labels_of(train.dataset)
    train_indices = list(range(len(labels)))
    if settings.val_split is None:
        val = _same_classes(train, open_dataset(settings.val_data or spec, "val", preprocessing, settings))
        val_indices = list(range(len(cast(Any, val.dataset))))
    else:
        val, val_indices = train, stratified(labels, settings.val_split, settings.seed)
        train_indices = sorted(set(train_indices) - set(val_indices))
    if settings.limit is not None:
        chosen = balanced([labels[index] for index in train_indices], settings.limit)
        train_indices = [train_indices[position] for position in chosen]
    return _checked(train, train_indices, val, val_indices, preprocessing, settings)


def with_held_out(open_splits: Callable[[_S], Splits], settings: _S) -> Splits:
    """Open data that has no validation split with a part of it held out, and add a note."""
    splits = open_splits(replace(settings, val_split=VAL_SPLIT))
    options = f"{option('val_split')}, {option('val_data')}"
    note = f"the data has no validation split: {VAL_SPLIT:.0%} of it is held out ({options})"
    return replace(splits, report=replace(splits.report, notes=(note, *splits.report.notes)))


def _download(spec: str, preprocessing: Preprocessing, settings: DataSettings) -> None:
    """Open the data once, so that processes which open it later do not download the same files concurrently."""
    open_dataset(spec, "train", preprocessing, settings)
    if settings.val_split is None:
        open_dataset(settings.val_data or spec, "val", preprocessing, settings)


def _same_classes(train: ImageData, val: ImageData) -> ImageData:
    """Return `val` with the class numbers of `train`; raise DataError for a class without training images."""
    val = relabelled(val, train.class_names)
    unknown = {*labels_of(val.dataset)} - {*labels_of(train.dataset)}
    if unknown:
        names = first_few([train.class_names[label] for label in sorted(unknown)], NAMES_SHOWN)
        hint = "training and validation images must have the same classes"
        raise DataError(f"no training image of class {names}", "the validation images", hint)
    return val


def _checked(
    train: ImageData,
    train_indices: list[int],
    val: ImageData,
    val_indices: list[int],
    preprocessing: Preprocessing,
    settings: DataSettings,
) -> Splits:
    """Return the splits without unreadable images, with a report; the packaged demo datasets are not checked."""
    report, augment, keep = DataReport(), None, settings.workers == 0
    if isinstance(train.dataset, Pictures) and isinstance(val.dataset, Pictures):
        training = inspect_images(train.dataset, train_indices, decode=False, max_bad=settings.max_bad)
        # Validation images must be the same in each run and epoch, so the unreadable ones are found now, by decoding.
        validation = inspect_images(val.dataset, val_indices, decode=True, max_bad=settings.max_bad)
        report = report_on(training, validation, train.class_names, preprocessing.size, settings.leaks)
        train_indices, val_indices = training.readable, validation.readable
        augment = augmentation(preprocessing) if settings.augment else None
    train, val = _subset(train, train_indices, preprocessing, keep), _subset(val, val_indices, preprocessing, keep)
    return Splits(train, val, augment, report)


def _subset(data: ImageData, indices: list[int], preprocessing: Preprocessing, keep: bool) -> ImageData:
    size = 4 * preprocessing.channels * preprocessing.size[0] * preprocessing.size[1]
    keep = keep and size * len(indices) <= KEPT_BYTES
    return ImageData(ImageSubset(data.dataset, indices, keep=keep), data.class_names)


def with_substitutes(splits: Splits, folder: Path, max_bad: float) -> Splits:
    """Return splits that write unreadable images to a list in the run folder and substitute them during training."""
    facts = splits.report.facts
    if not facts:  # no image files, as for the demo datasets
        return splits
    train = facts["train"]["images"] + facts["train"]["unreadable"]
    bad = BadImages(folder, int(max_bad * train) + facts["val"]["unreadable"])
    if splits.report.unreadable and distributed.is_first():
        bad.add(splits.report.unreadable)
    return replace(splits, train=ImageData(Substituting(splits.train.dataset, bad), splits.train.class_names))
