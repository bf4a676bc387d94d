"""The data of a fine-tune: what is trained on, what is measured on, in which order and how augmented.

Order and augmentation are functions of the seed, the epoch and the image alone. So a control sees what the network
with grafts sees, and a run that was resumed what it would have seen.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from attn_surgeon.data import ImageData, Pictures, Place, has_parts, open_dataset, processes, relabelled
from attn_surgeon.data.augment import Augment, augmentation
from attn_surgeon.data.checks import Report, look_at, report
from attn_surgeon.data.images import some
from attn_surgeon.data.substitutes import BadImages, Substituting
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.accuracy import balanced, labels_of
from attn_surgeon.finetune.settings import Settings
from attn_surgeon.networks.preprocessing import Preprocessing

KEPT_BYTES = 2**28
SPLIT_OFF = 0.1
Draw = tuple[int, int]


@dataclass(frozen=True)
class Parts:
    """Hold the images to train on and those to measure on, how the former are augmented, and what was found.

    `draws` numbers the images that an epoch takes, where that is not each of them once.
    """

    train: ImageData
    val: ImageData
    augment: Augment | None = None
    report: Report = field(default_factory=Report)
    draws: tuple[int, ...] | None = None


class Chosen(Dataset[tuple[Tensor, int]]):
    """Serve the chosen images of a dataset; where they are few, each is read once and kept."""

    def __init__(self, dataset: Dataset[Any], chosen: Sequence[int], keep: bool) -> None:
        known = labels_of(dataset)
        self.dataset, self.chosen, self.keep = dataset, list(chosen), keep
        self.labels = [known[index] for index in self.chosen]
        self._kept: dict[int, tuple[Tensor, int]] = {}

    def __len__(self) -> int:
        """Count the images."""
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        """Give image `index` and its label."""
        if index not in range(len(self)):
            raise IndexError(index)
        item = self._kept.get(index) or self.dataset[self.chosen[index]]
        if self.keep:
            self._kept[index] = item
        return cast("tuple[Tensor, int]", item)

    def picture(self, index: int) -> tuple[Any, int]:
        """Give image `index` as it is in its file, and its label."""
        return cast("tuple[Any, int]", cast(Any, self.dataset).picture(self.chosen[index]))


class Drawn(Dataset[Any]):
    """Serve training images for (epoch, draw), augmented as the seed has it."""

    def __init__(self, parts: Parts, seed: int) -> None:
        self.dataset, self.seed, self.augment = parts.train.dataset, seed, parts.augment
        self.draws = range(len(cast(Any, self.dataset))) if parts.draws is None else parts.draws

    def __len__(self) -> int:
        """Count the images of an epoch."""
        return len(self.draws)

    def __getitem__(self, draw: Draw) -> Any:
        """Give the image that an epoch sees, and its label."""
        epoch, number = draw
        index = self.draws[number]
        if self.augment is None:
            return self.dataset[index]
        return self.augment(self.dataset, index, f"{self.seed}:{epoch}:{number}")


class Order(Sampler[Draw]):
    """Draw every image once an epoch; `epoch` and `start` say where to go on."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        """Count the images still to come in this epoch."""
        return self.count - self.start

    def __iter__(self) -> Iterator[Draw]:
        """Yield the rest of the epoch."""
        return iter([(self.epoch, index) for index in order(self.count, self.seed, self.epoch)[self.start :]])


def order(count: int, seed: int, epoch: int) -> list[int]:
    """Shuffle the numbers below `count` for one epoch."""
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    return cast("list[int]", torch.randperm(count, generator=generator).tolist())


def open_parts(spec: str, preprocessing: Preprocessing, settings: Settings) -> Parts:
    """Open what is trained on and what is measured on; raise DataError where the two do not fit."""
    place = Place(settings.data_dir, settings.download)
    if settings.val_split is None and settings.val_data is None and not has_parts(spec, place):
        return split_off(lambda changed: open_parts(spec, preprocessing, changed), settings)
    if settings.val_split is not None and settings.val_data is not None:
        raise DataError("both say what to measure on", "--val-split and --val-data", "leave one out")
    if place.download and processes.count() > 1:
        processes.by_first(lambda: _fetch(spec, preprocessing, settings, place))
    train = open_dataset(spec, "train", preprocessing, place)
    labels = labels_of(train.dataset)
    rest = list(range(len(labels)))
    if settings.val_split is None:
        val = open_dataset(settings.val_data or spec, "val", preprocessing, place)
        val = _in_classes_of(train, val)
        held = list(range(len(cast(Any, val.dataset))))
    else:
        val, held = train, stratified(labels, settings.val_split, settings.seed)
        rest = sorted(set(rest) - set(held))
    if settings.limit is not None:
        rest = [rest[index] for index in balanced([labels[index] for index in rest], settings.limit)]
    return _checked(train, rest, val, held, preprocessing, settings)


def split_off(opened: Callable[[Settings], Parts], settings: Settings) -> Parts:
    """Open data that has no part to measure on with some of it split off, and say so."""
    parts = opened(replace(settings, val_split=SPLIT_OFF))
    note = f"the data has no part to measure on: {SPLIT_OFF:.0%} of it is split off (--val-split, --val-data)"
    return replace(parts, report=replace(parts.report, notes=(note, *parts.report.notes)))


def _fetch(spec: str, preprocessing: Preprocessing, settings: Settings, place: Place) -> None:
    """Open data for the sake of what that fetches, so that processes do not fetch the same files at once."""
    open_dataset(spec, "train", preprocessing, place)
    if settings.val_split is None:
        open_dataset(settings.val_data or spec, "val", preprocessing, place)


def _in_classes_of(train: ImageData, val: ImageData) -> ImageData:
    """Number the classes of `val` as those of `train`; it may lack some, but have none that is not trained on."""
    val = relabelled(val, train.class_names)
    unknown = {*labels_of(val.dataset)} - {*labels_of(train.dataset)}
    if unknown:
        names = some([train.class_names[label] for label in sorted(unknown)])
        raise DataError(f"no image to train on of class {names}", "the images to measure on", "give both the same")
    return val


def _checked(
    train: ImageData, rest: list[int], val: ImageData, held: list[int], preprocessing: Preprocessing, settings: Settings
) -> Parts:
    """Leave out what cannot be read, and report on the rest; the packaged demo tasks are known to be sound."""
    found, augment, keep = Report(), None, settings.workers == 0
    if isinstance(train.dataset, Pictures) and isinstance(val.dataset, Pictures):
        seen = look_at(train.dataset, rest, whole=False, max_bad=settings.max_bad)
        # What is measured on must be the same images for each arm and epoch, so these are decoded once beforehand.
        measured = look_at(val.dataset, held, whole=True, max_bad=settings.max_bad)
        found = report(seen, measured, train.class_names, preprocessing.size, settings.leaks)
        rest, held = seen.readable, measured.readable
        augment = augmentation(preprocessing) if settings.augment else None
    return Parts(_chosen(train, rest, preprocessing, keep), _chosen(val, held, preprocessing, keep), augment, found)


def _chosen(data: ImageData, indices: list[int], preprocessing: Preprocessing, keep: bool) -> ImageData:
    size = 4 * preprocessing.channels * preprocessing.size[0] * preprocessing.size[1]
    return ImageData(Chosen(data.dataset, indices, keep and size * len(indices) <= KEPT_BYTES), data.class_names)


def guarded(parts: Parts, folder: Path, max_bad: float) -> Parts:
    """List the unreadable images in a run's folder, and let others stand in for those that training will find."""
    facts = parts.report.facts
    if not facts:  # nothing is read from files
        return parts
    train = facts["train"]["images"] + facts["train"]["unreadable"]
    bad = BadImages(folder, int(max_bad * train) + facts["val"]["unreadable"])
    if parts.report.unreadable and processes.is_first():
        bad.note(parts.report.unreadable)
    return replace(parts, train=ImageData(Substituting(parts.train.dataset, bad), parts.train.class_names))


def stratified(labels: Sequence[int], share: float, seed: int) -> list[int]:
    """Choose a share of each class, at least one image of it and not all; the same ones for the same seed."""
    members: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    chosen: list[int] = []
    for label, found in sorted(members.items()):
        if len(found) < 2:
            raise DataError(f"class {label} has one image only, which cannot be split", "--val-split", "add images")
        count = min(max(1, round(share * len(found))), len(found) - 1)
        chosen += random.Random(f"split:{seed}:{label}").sample(found, count)
    return sorted(chosen)
