"""Draw the batches of training images that candidates are scored on, and others that a head is fitted on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from accelerate.utils import send_to_device
from torch.utils.data import DataLoader

from attn_surgeon.data.sampling import EpochImages, batches, shuffled
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError, option

Batch = tuple[Any, Any]
FEWEST = 4  # batches, of which a standard error is computed


@dataclass(frozen=True)
class Draws:
    """Batches of images and targets.

    Args:
        scored: training images that candidates are scored on.
        head: other training images, for the head and the trial.
        measured: validation images, on which a trial is measured.
    """

    scored: Sequence[Batch]
    head: Sequence[Batch]
    measured: Sequence[Batch] = ()


def draw_batches(splits: Splits, count: int, size: int, head_images: int, seed: int, device: str = "cpu") -> Draws:
    """Return batches of images without augmentation, in an order that depends on the seed alone.

    Candidates are scored on at most half of the images, so that the head is not fitted on the same ones.

    Args:
        splits: the data.
        count: the number of batches to score on.
        size: images in each.
        head_images: the number of images to fit a head on.
        seed: the seed of the order.
        device: the device that batches are moved to.

    Raises:
        DataError: if there are fewer than four batches.
    """
    images = EpochImages(splits, seed)
    order = shuffled(len(images), seed, 0)
    available = len(order) // 2 // size
    if available < FEWEST:
        raise _too_few(len(order), size)
    if count < FEWEST:
        hint = f"at least {FEWEST} are needed for standard errors: choose {option('batches', FEWEST)} or more"
        raise DataError(f"cannot score on {count} batches", option("batches"), hint)
    count = min(count, available)
    rest = order[count * size :][:head_images]
    scored, head = (_batches(splits, images, numbers, size, device) for numbers in (order[: count * size], rest))
    return Draws(scored, head)


def with_measured(draws: Draws, splits: Splits, size: int, seed: int, device: str = "cpu") -> Draws:
    """Return the draws with validation images, or crops of them where crops are trained on, at most as many as scored.

    They are in batches of at most the size.
    """
    count = size * len(draws.scored)
    number = len(cast(Any, splits.val.dataset))
    turns = None if splits.draws is None else tuple(range(number)) * -(-count // number)
    images = EpochImages(replace(splits, train=splits.val, draws=turns), seed)
    order = shuffled(len(images), seed, 0)[:count]
    measured = _batches(splits, images, order, min(size, max(1, len(order) // FEWEST)), device)
    return replace(draws, measured=measured)


def _too_few(images: int, size: int) -> DataError:
    half = images // 2
    what = (
        f"the {half} images that candidates are scored on, half of the training images, are too few for {FEWEST} "
        f"batches of {size}; the other half is for fitting a head"
    )
    most = half // FEWEST
    choose = f"choose {option('batch_size', most)} or less" if most else f"add images, {2 * FEWEST} at the least"
    return DataError(what, option("batch_size"), f"at least {FEWEST} are needed for standard errors: {choose}")


def _batches(splits: Splits, images: EpochImages, numbers: Sequence[int], size: int, device: str) -> list[Batch]:
    loader: DataLoader[Any] = DataLoader(
        cast(Any, images),
        size,
        sampler=cast(Any, [(0, number) for number in numbers]),
        collate_fn=splits.collate,
        generator=torch.Generator(),
    )
    return [send_to_device((pixels, targets), device) for pixels, targets in batches(loader)]
