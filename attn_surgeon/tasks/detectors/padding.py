"""Pad images to batches of the sizes that transformers' detectors take."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Sizes:
    """The sizes of images that a network takes: multiples of a number of pixels and, with `square`, only squares."""

    multiple: int = 1
    square: bool = False

    def smallest(self, images: list[Tensor]) -> tuple[int, int]:
        """Return the smallest such height and width for a batch of images (C, H, W)."""
        longest = [max(image.shape[axis] for image in images) for axis in (1, 2)]
        height, width = (-(-side // self.multiple) * self.multiple for side in longest)
        return (max(height, width),) * 2 if self.square else (height, width)


def sizes_of(config: Any) -> Sizes:
    """Return the sizes of images that a network with this configuration of transformers takes.

    RT-DETR and its successors add the levels of a pyramid, each twice as large as the next; LW-DETR and RF-DETR divide
    an image's patches into as many windows along each side. RF-DETR takes the patches of images that are not square in
    another order before its windows than after them (transformers 5.24), which puts features at other positions.

    >>> from types import SimpleNamespace
    >>> sizes_of(SimpleNamespace(model_type="rt_detr", feat_strides=[8, 16, 32]))
    Sizes(multiple=32, square=False)
    """
    strides = getattr(config, "feat_strides", None)
    if strides:
        return Sizes(int(max(strides)))
    backbone: Any = getattr(config, "backbone_config", None)
    windows = getattr(backbone, "num_windows_side", getattr(backbone, "num_windows", None))
    return Sizes(int(windows * backbone.patch_size), config.model_type == "rf_detr") if windows else Sizes()


def padded(images: list[Tensor], sizes: Sizes = Sizes()) -> tuple[Tensor, Tensor]:
    """Return images as a batch, padded with zeros at the right and the bottom.

    Args:
        images: images (C, H, W) of any sizes.
        sizes: the sizes that the batch may have.

    Returns:
        The batch (N, C, H, W), and a mask (N, H, W) that is 1 at the images' pixels.

    >>> batch, mask = padded([torch.ones(3, 2, 3), torch.ones(3, 1, 5)], Sizes(multiple=4))
    >>> tuple(batch.shape), mask.sum((1, 2)).tolist()
    ((2, 3, 4, 8), [6, 5])
    """
    height, width = sizes.smallest(images)
    margins = [(0, width - image.shape[2], 0, height - image.shape[1]) for image in images]
    mask = [F.pad(torch.ones_like(image[0]), margin) for image, margin in zip(images, margins, strict=True)]
    batch = [F.pad(image, margin) for image, margin in zip(images, margins, strict=True)]
    return torch.stack(batch), torch.stack(mask).long()
