"""Subsets of labelled datasets: balanced or stratified selections, and a dataset that serves one."""

from __future__ import annotations

import hashlib
import random
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor
from torch.utils.data import Dataset

from attn_surgeon.errors import DataError, option

SUBSET_SEED = 0


class ImageSubset(Dataset[tuple[Tensor, int]]):
    """Serve the chosen images of a dataset; with `keep`, each is read once and kept in memory."""

    def __init__(self, dataset: Dataset[Any], chosen: Sequence[int], *, keep: bool = False) -> None:
        labels = labels_of(dataset)
        self.dataset, self.chosen, self.keep = dataset, list(chosen), keep
        self.labels = [labels[index] for index in self.chosen]
        self._kept: dict[int, tuple[Tensor, int]] = {}

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index not in range(len(self)):
            raise IndexError(index)
        item = self._kept.get(index) or self.dataset[self.chosen[index]]
        if self.keep:
            self._kept[index] = item
        return cast("tuple[Tensor, int]", item)

    def picture(self, index: int) -> tuple[Any, int]:
        """Return image `index` without the transform, and its label."""
        return cast("tuple[Any, int]", cast(Any, self.dataset).picture(self.chosen[index]))


def labels_of(dataset: Dataset[Any]) -> list[int]:
    """Return the labels of a dataset, from its attribute `labels` or else by reading every item."""
    labels = getattr(dataset, "labels", None)
    return list(labels) if labels is not None else [int(dataset[i][1]) for i in range(len(cast(Any, dataset)))]


def balanced(labels: Sequence[int], limit: int) -> list[int]:
    """Return the indices of at most `limit` images, balanced over the classes; always the same ones.

    >>> balanced([0, 0, 0, 0, 1, 1, 1, 1], 4)
    [2, 3, 4, 7]
    """
    if limit < 1:
        raise DataError(f"limit must be at least 1, got {limit}", option("limit"), "leave it out to take all images")
    shuffled = sorted(range(len(labels)), key=_shuffle_key)
    counts: Counter[int] = Counter()
    rank: dict[int, int] = {}  # of an image among those of its class
    for index in shuffled:
        rank[index] = counts[labels[index]]
        counts[labels[index]] += 1
    return sorted(sorted(shuffled, key=rank.__getitem__)[:limit])


def _shuffle_key(index: int) -> bytes:
    """Return a sort key by which indices have a random order that is the same on every machine."""
    return hashlib.sha256(f"{SUBSET_SEED}:{index}".encode()).digest()


def stratified(labels: Sequence[int], fraction: float, seed: int) -> list[int]:
    """Return the indices of a random fraction of each class, at least one image and at most all but one."""
    members: dict[int, list[int]] = defaultdict(list)
    for index, label in enumerate(labels):
        members[label].append(index)
    chosen: list[int] = []
    for label, indices in sorted(members.items()):
        if len(indices) < 2:
            what = f"class {label} has a single image, which cannot be split"
            raise DataError(what, option("val_split"), "add images")
        chosen += random.Random(f"split:{seed}:{label}").sample(indices, held_out(fraction, len(indices)))
    return sorted(chosen)


def held_out(fraction: float, count: int) -> int:
    """Return the number of images to hold out of `count`, at least one and at most all but one."""
    return min(max(1, round(fraction * count)), count - 1)
