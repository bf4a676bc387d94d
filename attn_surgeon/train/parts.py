"""The data of a fine-tune: what is trained on, what is measured on, in which order and how augmented.

Order and augmentation are functions of the seed, the epoch and the image alone. So a control sees what the network
with grafts sees, and a run that was resumed what it would have seen.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from attn_surgeon.demo.data import TASKS
from attn_surgeon.errors import DataError
from attn_surgeon.preprocessing import Preprocessing
from attn_surgeon.train.data import ImageData, has_parts, open_dataset
from attn_surgeon.train.evaluate import balanced, labels_of
from attn_surgeon.train.settings import Settings

KEPT_BYTES = 2**28
Draw = tuple[int, int]
Augment = Callable[[Any, int, str], Any]  # (dataset, index, key) to an item; the key alone decides what is drawn


@dataclass(frozen=True)
class Parts:
    """Hold the images to train on and the images to measure on, and how the former are augmented.

    `draws` numbers the images that an epoch takes, where that is not each of them once.
    """

    train: ImageData
    val: ImageData
    augment: Augment | None = None
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


def shift_and_mirror(dataset: Any, index: int, key: str) -> tuple[Tensor, int]:
    """Mirror an image (C, H, W) half of the time, and crop it from one that is padded by an eighth of its sides."""
    image, label = dataset[index]
    dice = random.Random(key)
    height, width = image.shape[-2:]
    down, right = height // 8, width // 8
    padded = F.pad(image, (right, right, down, down))
    top, left = dice.randint(0, 2 * down), dice.randint(0, 2 * right)
    cropped = padded[:, top : top + height, left : left + width]
    return (cropped.flip(-1) if dice.random() < 0.5 else cropped), label


def open_parts(spec: str, preprocessing: Preprocessing, settings: Settings) -> Parts:
    """Open what is trained on and what is measured on; raise DataError where the two do not fit."""
    if settings.val_split is None and not has_parts(spec):
        raise DataError("there is no val/ to measure on", spec, "split some off with --val-split 0.2")
    train = open_dataset(spec, "train", preprocessing)
    labels, keep = labels_of(train.dataset), settings.workers == 0
    rest = list(range(len(labels)))
    if settings.val_split is None:
        val = open_dataset(spec, "val", preprocessing)
        held = list(range(len(cast(Any, val.dataset))))
        _require_same_classes(train, val, spec)
    else:
        val, held = train, stratified(labels, settings.val_split, settings.seed)
        rest = sorted(set(rest) - set(held))
    if settings.limit is not None:
        rest = [rest[index] for index in balanced([labels[index] for index in rest], settings.limit)]
    augmented = settings.augment and spec not in TASKS and preprocessing.channels == 3 and min(preprocessing.size) >= 32
    augment = shift_and_mirror if augmented else None
    return Parts(_chosen(train, rest, preprocessing, keep), _chosen(val, held, preprocessing, keep), augment)


def _chosen(data: ImageData, indices: list[int], preprocessing: Preprocessing, keep: bool) -> ImageData:
    size = 4 * preprocessing.channels * preprocessing.size[0] * preprocessing.size[1]
    return ImageData(Chosen(data.dataset, indices, keep and size * len(indices) <= KEPT_BYTES), data.class_names)


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


def _require_same_classes(train: ImageData, val: ImageData, spec: str) -> None:
    different = sorted({*train.class_names} ^ {*val.class_names})
    if different:
        shown = ", ".join(different[:3]) + (f" and {len(different) - 3} more" if len(different) > 3 else "")
        raise DataError(f"classes in only one of train/ and val/: {shown}", str(Path(spec)), "give both the same")
