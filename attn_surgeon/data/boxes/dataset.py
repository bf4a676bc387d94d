"""Datasets for detection: images with boxes, scaled and normalised for a network, and augmented for training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as transforms

from attn_surgeon.data.augment import seeded_by
from attn_surgeon.data.boxes.annotations import Annotations
from attn_surgeon.data.boxes.boxes import Boxes
from attn_surgeon.data.masks import read_pixels
from attn_surgeon.data.segmentation_images import normalised
from attn_surgeon.networks.preprocessing import Preprocessing

BoxItem = tuple[Tensor, Boxes]
SCALES = (0.75, 1.33)  # range of the scale jitter
BRIGHTNESS = 0.25  # largest relative change of brightness, contrast and saturation
SMALLEST = 2.0  # pixels; the smallest side of a box that is left of an object at the edge of a crop


class BoxImages(Dataset[BoxItem]):
    """Serve images (C, H, W), scaled and normalised, with boxes in their pixels.

    Args:
        annotations: the images and boxes.
        preprocessing: how images are scaled and normalised.
        keep: whether decoded images are kept in memory.

    Attributes:
        labels: 0 for every image, so that any image can substitute an unreadable one.
    """

    def __init__(self, annotations: Annotations, preprocessing: Preprocessing, *, keep: bool = False) -> None:
        self.annotations, self.preprocessing, self.keep = annotations, preprocessing, keep
        self.labels = [0] * len(annotations.images)
        self._kept: dict[int, Tensor] = {}

    def having(self, annotations: Annotations) -> BoxImages:
        """Return the dataset with other annotations of the same images."""
        return BoxImages(annotations, self.preprocessing, keep=self.keep)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> BoxItem:
        if index not in range(len(self)):
            raise IndexError(index)
        return fed(*self.picture(index), self.preprocessing)

    def picture(self, index: int) -> BoxItem:
        """Return image `index` as uint8 (C, H, W), and its boxes in pixels of the file."""
        return self.pixels(index), self.truth(index)

    def truth(self, index: int) -> Boxes:
        """Return the boxes of image `index` in pixels of the file."""
        columns = self.annotations.of(index)
        return Boxes(
            torch.from_numpy(self.annotations.boxes[columns]).float(),
            torch.from_numpy(self.annotations.labels[columns]),
            torch.from_numpy(self.annotations.crowd[columns]),
        )

    def in_file(self, index: int, boxes: Tensor, size: Sequence[int]) -> Tensor:
        """Return boxes (K, 4) in pixels of the file of image `index`, which the network got at a size (H, W)."""
        sizes = self.annotations.sizes
        if sizes is None:
            return boxes
        width, height = sizes[index].tolist()
        return boxes * torch.tensor([width / size[1], height / size[0]] * 2)

    def pixels(self, index: int) -> Tensor:
        """Return image `index` as uint8 (C, H, W)."""
        if index in self._kept:
            return self._kept[index]
        pixels = read_pixels(self.annotations.images[index], self.preprocessing.channels)
        if self.keep:
            self._kept[index] = pixels
        return pixels


def fed(pixels: Tensor, boxes: Boxes, preprocessing: Preprocessing) -> BoxItem:
    """Return uint8 pixels (C, H, W) as the network gets them, with boxes in pixels of the result."""
    height, width = pixels.shape[1:]
    size = fed_size((height, width), preprocessing)
    if size != (height, width):
        pixels = cast(Tensor, transforms.resize(pixels, list(size), antialias=True))
        factors = torch.tensor([size[1] / width, size[0] / height] * 2)
        boxes = Boxes(boxes.boxes * factors, boxes.labels, boxes.crowd)
    return normalised(pixels, preprocessing), boxes


def fed_size(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Return the size (H, W) at which the network gets an image of a size (H, W).

    An image keeps its proportions. Networks that normalise inside resize inside too, so without a longer side to scale
    to they get the image at its own size.

    >>> fed_size((480, 640), Preprocessing((0.5,), (0.5,), (224, 224), channels=1))
    (168, 224)
    >>> fed_size((480, 640), Preprocessing((0.0,), (1.0,), (224, 224), channels=1))
    (480, 640)
    """
    inside = not any(preprocessing.mean) and set(preprocessing.std) == {1.0}
    longer = preprocessing.longer_side or (None if inside else max(preprocessing.size))
    if longer is None:
        return size
    factor = longer / max(size)
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


@dataclass(frozen=True)
class RandomView:
    """Change the colours of an image, flip it half of the time, scale it and crop it to its size, drawn from a key."""

    preprocessing: Preprocessing

    def __call__(self, dataset: Any, index: int, key: str) -> BoxItem:
        """Return image `index` of a dataset, augmented, with the boxes that are left in it."""
        pixels, boxes = dataset.picture(index)
        size = pixels.shape[1], pixels.shape[2]
        box = tv_tensors.BoundingBoxes(boxes.boxes, format="XYXY", canvas_size=size)
        sample = {"boxes": box, "labels": boxes.labels, "crowd": boxes.crowd}
        with seeded_by(key):
            image, found = _views(size)(tv_tensors.Image(pixels), sample)
        left = Boxes(found["boxes"].as_subclass(Tensor), found["labels"], found["crowd"])
        return fed(image.as_subclass(Tensor), left, self.preprocessing)


def _views(size: tuple[int, int]) -> v2.Compose:
    return v2.Compose(
        [
            v2.ColorJitter(BRIGHTNESS, BRIGHTNESS, BRIGHTNESS),  # no hue: it may be what tells classes apart
            v2.RandomHorizontalFlip(),
            v2.ScaleJitter(size, scale_range=SCALES, antialias=True),
            v2.RandomCrop(size, pad_if_needed=True, fill=127),
            v2.ClampBoundingBoxes(),
            v2.SanitizeBoundingBoxes(SMALLEST, labels_getter=lambda sample: (sample[1]["labels"], sample[1]["crowd"])),
        ]
    )


def as_lists(items: Sequence[BoxItem]) -> tuple[list[Tensor], list[Boxes]]:
    """Return a batch as lists of images, whose sizes may differ, and of their boxes."""
    images, boxes = zip(*items, strict=True)
    return list(images), list(boxes)


def decoded_bytes(sizes: Sequence[tuple[int, int]], channels: int) -> int:
    """Return the number of bytes of decoded images of these sizes."""
    return channels * sum(math.prod(size) for size in sizes)
