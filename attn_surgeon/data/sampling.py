"""Training images in the order and with the augmentation of an epoch.

Both are functions of the seed, the epoch and the image alone, so the control is trained on what the network with grafts
is trained on, and a resumed run on what it would have been trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any, cast

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError

Draw = tuple[int, int]  # (epoch, number within it)


class EpochImages(Dataset[Any]):
    """Serve the training images of (epoch, draw), augmented."""

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
    """Shuffle the images of an epoch; `epoch` and `start` are where to continue."""

    def __init__(self, count: int, seed: int) -> None:
        self.count, self.seed = count, seed
        self.epoch = self.start = 0

    def __len__(self) -> int:
        return self.count - self.start

    def __iter__(self) -> Iterator[Draw]:
        return iter([(self.epoch, index) for index in shuffled(self.count, self.seed, self.epoch)[self.start :]])


def shuffled(count: int, seed: int, epoch: int) -> list[int]:
    """Return the numbers below `count` in the order of an epoch."""
    digest = hashlib.sha256(f"{seed}:{epoch}".encode()).digest()
    generator = torch.Generator().manual_seed(int.from_bytes(digest[:7]))
    return cast("list[int]", torch.randperm(count, generator=generator).tolist())


def batches(loader: DataLoader[Any]) -> Iterator[Any]:
    """Yield batches; raise a worker's DataError as the main process would."""
    try:
        yield from loader
    except DataError as error:
        if loader.num_workers == 0:
            raise
        # a worker's error arrives as its whole traceback, whose last line is the message
        what = error.what.strip().splitlines()[-1].partition("Error: ")[2]
        raise DataError(what or error.what, error.where, error.hint) from error
