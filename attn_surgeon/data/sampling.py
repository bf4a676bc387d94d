"""Shuffle and augment the training images of an epoch, reproducibly.

Order and augmentation depend only on the seed, the epoch and the image. So the control is trained on the same images as
the network with grafts, and a resumed run on the same images as one that was not interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError

Draw = tuple[int, int]  # (epoch, number of the draw in the epoch)


class EpochImages(Dataset[Any]):
    """Serve the augmented training image of a draw (epoch, number)."""

    def __init__(self, splits: Splits, seed: int) -> None:
        self.dataset, self.seed, self.augment = splits.train.dataset, seed, splits.augment
        self.draws = range(len(cast(Any, self.dataset))) if splits.draws is None else splits.draws

    def __len__(self) -> int:
        return len(self.draws)

    def __getitem__(self, draw: Draw) -> Any:
        epoch, number = draw
        index = self.draws[number]
        if self.augment is None:
            return self.dataset[index]
        return self.augment(self.dataset, index, f"{self.seed}:{epoch}:{number}")


class EpochSampler(Sampler[Draw]):
    """Yield the draws of an epoch in random order; set `epoch` and `start` to resume within one."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.count - self.start

    def __iter__(self) -> Iterator[Draw]:
        return iter([(self.epoch, index) for index in shuffled(self.count, self.seed, self.epoch)[self.start :]])


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """Return the numbers below `count` in the random order of an epoch."""
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    return cast("list[int]", torch.randperm(count, generator=generator).tolist())


def batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield the batches of a loader; a DataError of a worker is raised with its original message."""
    try:
        yield from loader
    except DataError as error:
        if loader.num_workers == 0:
            raise
        # DataLoader raises the error of a worker again with its traceback as the message; the last line has the text.
        what = error.what.strip().splitlines()[-1].partition("Error: ")[2]
        raise DataError(what or error.what, error.where, error.hint) from error
