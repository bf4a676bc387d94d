"""Export and compare networks that return objects: a list, for each image, of boxes, scores and labels.

Torchvision's detectors return these. Their number differs from image to image, so a file takes one image at a time, and
what it finds is compared with PyTorch object by object.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from attn_surgeon.export.example_images import normalise
from attn_surgeon.export.parity import Array, OutputDifference
from attn_surgeon.networks.preprocessing import Preprocessing

OBJECTS = ("boxes", "scores", "labels")
LOWEST_IOU = 0.99  # of a box of the file with PyTorch's, at the default tolerance
_SCALE = 1e-4 / (1 - LOWEST_IOU)


def returns_objects(output: Any) -> bool:
    """Return whether an output has boxes, scores and labels for each image.

    >>> import torch
    >>> returns_objects([{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0), "scores": torch.zeros(0)}])
    True
    """
    return (
        isinstance(output, (list, tuple))
        and bool(output)
        and all(isinstance(item, Mapping) and item.keys() >= {*OBJECTS} for item in output)
    )


def objects_of(output: Sequence[Mapping[str, Tensor]]) -> list[Tensor]:
    """Return the boxes (K, 4), scores (K,) and labels (K,) of the first image."""
    return [output[0][name] for name in OBJECTS]


class ObjectsModule(nn.Module):
    """Run a network on one image and return boxes, scores and labels."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing | None) -> None:
        super().__init__()
        self.network, self.preprocessing = network, preprocessing

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Run on a float image (1, C, H, W) or, with preprocessing inside, on a uint8 image (1, H, W, C)."""
        x = images if self.preprocessing is None else normalise(images, self.preprocessing)
        return tuple(objects_of(self.network([x[0]])))


def objects_difference(size: str, actual: Sequence[Array], expected: Sequence[Array]) -> OutputDifference:
    """Compute the difference between the objects that a file and PyTorch find in an image.

    Each object of PyTorch's is matched with one of the file's that has the same label: of those with the nearest score,
    the one of the largest IoU. Without a match for each, or if the file finds more, the difference is infinite. The
    relative difference is that of the scores, or a hundredth of one minus the IoU if that is larger.

    Args:
        size: the name of the input size.
        actual: boxes (K, 4), scores (K,) and labels (K,) of the file.
        expected: those of PyTorch.

    >>> box, label = np.array([[0.0, 0.0, 10.0, 10.0]]), np.array([1])
    >>> objects_difference("1", [box, np.array([0.5]), label], [box + 0.25, np.array([0.5]), label]).absolute
    0.25
    """
    (boxes, scores, labels), (other_boxes, other_scores, other_labels) = actual, expected
    if len(scores) != len(other_scores):
        objects = f"{len(scores)} objects instead of {len(other_scores)}"
        return OutputDifference(size, float("inf"), float("inf"), None, objects=objects)
    free, pixels, score, lost_iou = np.ones(len(scores), dtype=bool), 0.0, 0.0, 0.0
    for number in np.argsort(-other_scores, kind="stable"):
        distances = np.abs(scores - other_scores[number])
        lost = 1 - _ious(boxes, other_boxes[number])
        costs = np.where(free & (labels == other_labels[number]), np.maximum(distances, lost * _SCALE), np.inf)
        match = int(costs.argmin())
        if np.isinf(costs[match]):
            return OutputDifference(size, float("inf"), float("inf"), None, objects="other labels")
        free[match] = False
        score, lost_iou = max(score, float(distances[match])), max(lost_iou, float(lost[match]))
        pixels = max(pixels, float(np.abs(boxes[match] - other_boxes[number]).max()))
    objects = f"the same labels: scores within {score:.2g}, IoU from {1 - lost_iou:.4f}"
    worst = max(score, lost_iou * _SCALE)
    return OutputDifference(size, pixels, worst, None, silent=not len(scores), objects=objects)


def _ious(boxes: Array, box: Array) -> Array:
    """Return the IoU (K,) of boxes (K, 4) with a box (4,); of two equal ones without an area, it is 1."""
    corners = np.maximum(boxes[:, :2], box[:2]), np.minimum(boxes[:, 2:], box[2:])
    shared = (corners[1] - corners[0]).clip(0).prod(1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(1) + (box[2:] - box[:2]).prod() - shared
    same = (boxes == box).all(1)
    return np.where(same, 1.0, shared / np.where(union > 0, union, 1.0))
