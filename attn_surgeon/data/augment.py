"""Augment training images by random draws that depend only on a key, not on the state of any global generator."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from attn_surgeon.networks.preprocessing import Preprocessing

LabelledImage = tuple[Tensor, int]
Augment = Callable[[Any, int, str], Any]  # maps (dataset, index, key) to an item
MIN_SIDE, MIN_SIDE_OF_CROPS = 32, 64  # pixels


def augmentation(preprocessing: Preprocessing) -> Augment | None:
    """Return the augmentation for RGB inputs: random resized crops from 64 pixels, shifts from 32; None for others."""
    side = min(preprocessing.size)
    if preprocessing.channels != 3 or side < MIN_SIDE:
        return None
    return RandomResizedCrop(_timm_transform(preprocessing)) if side >= MIN_SIDE_OF_CROPS else shift_and_mirror


@dataclass(frozen=True)
class RandomResizedCrop:
    """Crop the stored image by a transform that draws from the global random number generators."""

    transform: Callable[[Any], Tensor]

    def __call__(self, dataset: Any, index: int, key: str) -> LabelledImage:
        """Return image `index` of a dataset, with a crop drawn from the key, and its label."""
        image, label = dataset.picture(index)
        image = image if image.mode == "RGB" else image.convert("RGB")
        with seeded_by(key):
            return self.transform(image), label


def shift_and_mirror(dataset: Any, index: int, key: str) -> LabelledImage:
    """Return an image (C, H, W), flipped half of the time and shifted by up to an eighth of a side, and its label."""
    image, label = dataset[index]
    draw = random.Random(key)
    height, width = image.shape[-2:]
    down, right = height // 8, width // 8
    padded = F.pad(image, (right, right, down, down))
    top, left = draw.randint(0, 2 * down), draw.randint(0, 2 * right)
    cropped = padded[:, top : top + height, left : left + width]
    return cropped.flip(-1) if draw.random() < 0.5 else cropped, label


@contextmanager
def seeded_by(key: str) -> Iterator[None]:
    """Seed Python's and torch's global generators from a key, and restore them afterwards."""
    python_state, torch_state = random.getstate(), torch.get_rng_state()
    try:
        random.seed(key)
        torch.default_generator.manual_seed(random.getrandbits(63))  # torch.manual_seed would seed the GPUs too
        yield
    finally:
        random.setstate(python_state)
        torch.set_rng_state(torch_state)


def _timm_transform(preprocessing: Preprocessing) -> Callable[[Any], Tensor]:
    """Build timm's training transform: a random resized crop of 8 to 100 % of the area and a horizontal flip."""
    from timm.data import create_transform

    transform: Callable[[Any], Tensor] = create_transform(
        input_size=(preprocessing.channels, *preprocessing.size),
        is_training=True,
        color_jitter=None,
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
    )
    return transform
