"""The packaged handwritten digits, clean (`demo`) and on cluttered backgrounds (`demo-clutter`).

box_scenes.py draws several of them in an image, with their boxes.

The digits are the "Optical Recognition of Handwritten Digits" of E. Alpaydin and C. Kaynak (1998),
UCI Machine Learning Repository, CC BY 4.0, in the form scikit-learn carries: 1797 images of 8x8, 0..16.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from attn_surgeon.errors import DataError, nearest
from attn_surgeon.networks.demo.clutter import KeyedRandom, Plane, draw_scene, resize
from attn_surgeon.networks.preprocessing import Preprocessing

Item = tuple[Tensor, int] | tuple[Tensor, int, Tensor]
Transform = Callable[[Image.Image], Tensor]

DIGITS = Path(__file__).with_name("digits.npz")
DEMO_DATASETS = ("demo", "demo-clutter")
SPLITS = ("train", "val")
CLASS_NAMES = tuple("0123456789")
SIZE = (32, 32)
MEAN = (0.305,)
STD = (0.323,)
SEED = 1998
COPIES = {"train": 4, "val": 2}
DEMO_PREPROCESSING = Preprocessing(mean=MEAN, std=STD, size=SIZE, channels=1)


class Digits(Dataset[Item]):
    """A dataset of images (1, H, W) and labels, and if `masks`, the digits' masks (H, W)."""

    def __init__(self, task: str, split: str, masks: bool, transform: Transform | None) -> None:
        self.cluttered = task == "demo-clutter"
        self.masks, self.transform = masks, transform
        images, labels, val = _packed()
        # the key of an item is its index in the whole dataset, so the splits share no background
        self._keys = np.flatnonzero(val == (split == "val"))
        self._images = images[self._keys]
        self._copies = COPIES[split] if self.cluttered else 1
        self.labels: list[int] = labels[self._keys].tolist() * self._copies

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.labels)

    def __getitem__(self, index: int) -> Item:
        """Return the item of an index, always bit for bit the same."""
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index %= len(self)
        picture, cover = self._render(index)
        pixels = (picture * 255.0 + 0.5).astype(np.uint8)
        image = _plain(pixels) if self.transform is None else self.transform(Image.fromarray(pixels))
        if self.masks:
            return image, self.labels[index], torch.from_numpy(cover >= 0.5)
        return image, self.labels[index]

    def _render(self, index: int) -> tuple[Plane, Plane]:
        """Draw an item's picture (H, W) and its digit's coverage (H, W)."""
        copy, place = divmod(index, len(self._images))
        digit = self._images[place] / 16.0
        if self.cluttered:
            return draw_scene(digit, self._images, SIZE[0], KeyedRandom(SEED, int(self._keys[place]), copy))
        clean = resize(digit, *SIZE)
        return clean, clean


def digits(task: str, split: str, *, masks: bool = False, transform: Transform | None = None) -> Dataset[Item]:
    """Open a dataset's split as (image, label) or (image, label, mask), the image in 0..1 or transformed.

    Without a transform the image is a float tensor (1, 32, 32), not normalised; `transform` gets a PIL image,
    as `DEMO_PREPROCESSING.transform()` expects. The mask is a bool tensor (32, 32).
    """
    if task not in DEMO_DATASETS:
        hint = nearest(task, DEMO_DATASETS) or f"there are {' and '.join(DEMO_DATASETS)}"
        raise DataError(f"unknown task {task!r}", "demo digits", hint)
    if split not in SPLITS:
        raise DataError(f"no split {split!r}", task, f"there are {' and '.join(SPLITS)}")
    return Digits(task, split, masks, transform)


def digits_of(split: str) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Return the clean digits (N, 8, 8) of a split, 0..16, and their labels (N,)."""
    images, labels, val = _packed()
    chosen = val == (split == "val")
    return images[chosen], labels[chosen].astype(np.int64)


@cache
def _packed() -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """Read images (1797, 8, 8), labels (1797,) and which of them are for validation (1797,)."""
    with np.load(DIGITS) as packed:
        return packed["images"], packed["labels"], packed["val"]


def _plain(pixels: NDArray[np.uint8]) -> Tensor:
    """Return pixels (H, W) as an image (1, H, W) in 0..1."""
    return torch.from_numpy(pixels)[None].float() / 255.0
