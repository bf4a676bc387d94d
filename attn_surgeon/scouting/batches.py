"""Draw the batches of training images that candidates are scored on, and others that a head is fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch.utils.data import DataLoader

from attn_surgeon.data.sampling import EpochImages, batches, shuffled
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError, option

Batch = tuple[Any, Any]
FEWEST = 4  # batches, of which a standard error is computed


@dataclass(frozen=True)
class Draws:
    """Batches of images and targets: those that candidates are scored on, and others for the head."""

    scored: Sequence[Batch]
    head: Sequence[Batch]


def draw_batches(splits: Splits, count: int, size: int, head_images: int, seed: int) -> Draws:
    """Return batches of training images without augmentation, in an order that depends on the seed alone.

    Candidates are scored on at most half of the images, so that the head is not fitted on the same ones.

    Args:
        splits: the data.
        count: the number of batches to score on.
        size: images in each.
        head_images: the number of images to fit a head on.
        seed: the seed of the order.

    Raises:
        DataError: if there are not enough images for four batches.
    """
    images = EpochImages(splits, seed)
    order = shuffled(len(images), seed, 0)
    count = min(count, len(order) // 2 // size)
    if count < FEWEST:
        what = f"there are {len(order)} training images, and half of them make {count} batches of {size}"
        raise DataError(what, option("batch_size"), f"at least {FEWEST} are needed: choose smaller batches")
    rest = order[count * size :][:head_images]
    return Draws(_batches(splits, images, order[: count * size], size), _batches(splits, images, rest, size))


def _batches(splits: Splits, images: EpochImages, numbers: Sequence[int], size: int) -> list[Batch]:
    loader: DataLoader[Any] = DataLoader(
        cast(Any, images),
        size,
        sampler=cast(Any, [(0, number) for number in numbers]),
        collate_fn=splits.collate,
        generator=torch.Generator(),
    )
    return [(pixels, targets) for pixels, targets in batches(loader)]
