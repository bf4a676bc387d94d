"""Corrupted images for evaluating detectors; their boxes are unchanged."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from torch import Tensor
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from attn_surgeon.data.boxes.dataset import BoxImages
from attn_surgeon.data.corrupted import SCENE_POOL, Corrupt, Corruption, require_others
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.subsets import balanced


class CorruptedBoxImages(BoxImages):
    """Serve images with boxes corrupted at full size; clutter may cover part of the objects."""

    def __init__(self, images: BoxImages, corruption: Corruption) -> None:
        super().__init__(images.annotations, images.preprocessing)
        self.corruption = corruption

    def pixels(self, index: int) -> Tensor:
        """Return image `index` as uint8 (C, H, W), corrupted."""
        return cast(Tensor, pil_to_tensor(self.corruption(to_pil_image(super().pixels(index)), index)))


def corrupted_box_images(data: ImageData, seed: int) -> Corrupt:
    """Return a function that maps the kind and strength of a corruption to the corrupted images with boxes."""
    images = cast(BoxImages, data.dataset)
    require_others(len(images))
    pool = {index: to_pil_image(images.pixels(index)) for index in balanced(images.labels, SCENE_POOL)}
    return lambda kind, strength: replace(
        data, dataset=CorruptedBoxImages(images, Corruption(kind, strength, seed, pool))
    )
