"""The boxes of an image, as data has them and as detectors are trained on them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Boxes:
    """The ground truth of an image.

    Args:
        boxes: (K, 4) float32, x1 y1 x2 y2 in pixels of the image tensor that the network gets.
        labels: (K,) int64, class numbers from 0 in the order of the class names, without background.
        crowd: (K,) bool, regions that are ignored in evaluation and left out of training.
    """

    boxes: Tensor
    labels: Tensor
    crowd: Tensor

    def to(self, device: Any, **options: Any) -> Boxes:
        """Return the boxes on a device; the options are those of `Tensor.to`."""
        return Boxes(*(value.to(device, **options) for value in (self.boxes, self.labels, self.crowd)))

    def where(self, chosen: Tensor) -> Boxes:
        """Return the boxes that a mask (K,) chooses."""
        return Boxes(self.boxes[chosen], self.labels[chosen], self.crowd[chosen])
