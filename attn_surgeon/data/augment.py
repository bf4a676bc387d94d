"""How training images are changed: by draws that a key alone decides, whatever was drawn before and elsewhere."""

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

Item = tuple[Tensor, int]
Augment = Callable[[Any, int, str], Any]  # (dataset, index, key) to an item
SMALLEST, LARGE = 32, 64


def augmentation(preprocessing: Preprocessing) -> Augment | None:
    """Choose what suits a network: crops of any scale from 64 pixels, small shifts from 32, RGB images only."""
    side = min(preprocessing.size)
    if preprocessing.channels != 3 or side < SMALLEST:
        return None
    return Crop(_timm_transform(preprocessing)) if side >= LARGE else shift_and_mirror


@dataclass(frozen=True)
class Crop:
    """Give a part of the picture as it is in its file, by a transform that draws from the global random streams."""

    transform: Callable[[Any], Tensor]

    def __call__(self, dataset: Any, index: int, key: str) -> Item:
        """Read picture `index` of a dataset and draw from it by the key."""
        image, label = dataset.picture(index)
        image = image if image.mode == "RGB" else image.convert("RGB")
        with drawn_by(key):
            return self.transform(image), label


def shift_and_mirror(dataset: Any, index: int, key: str) -> Item:
    """Mirror an image (C, H, W) half of the time, and crop it from one that is padded by an eighth of its sides."""
    image, label = dataset[index]
    dice = random.Random(key)
    height, width = image.shape[-2:]
    down, right = height // 8, width // 8
    padded = F.pad(image, (right, right, down, down))
    top, left = dice.randint(0, 2 * down), dice.randint(0, 2 * right)
    cropped = padded[:, top : top + height, left : left + width]
    return cropped.flip(-1) if dice.random() < 0.5 else cropped, label


@contextmanager
def drawn_by(key: str) -> Iterator[None]:
    """Let Python's and torch's random streams be decided by a key, and put them back afterwards."""
    python, own = random.getstate(), torch.get_rng_state()
    try:
        random.seed(key)
        torch.default_generator.manual_seed(random.getrandbits(63))  # torch.manual_seed would reach the GPUs' too
        yield
    finally:
        random.setstate(python)
        torch.set_rng_state(own)


def _timm_transform(preprocessing: Preprocessing) -> Callable[[Any], Tensor]:
    """Build timm's training transform: a crop of 8 to 100 % of the area at a drawn ratio, mirrored half of the time."""
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
