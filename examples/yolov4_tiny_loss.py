"""YOLOv4-tiny's loss, and the boxes that it detects.

Each cell of a map has three anchors; an anchor in a cell is a *prior*, and the network predicts one box for it. All
priors of both maps stand in one row: coarse map first, in it anchor by anchor, in these row by row. Boxes are x1, y1,
x2, y2 in pixels of the network's input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import batched_nms, box_convert, box_iou, clip_boxes_to_image, complete_box_iou_loss

Target = dict[str, Tensor]  # of one image: "boxes" (K, 4) and "labels" (K,), as torchvision and torchmetrics have them

ANCHORS = {32: ((81, 82), (135, 169), (344, 319)), 16: ((23, 27), (37, 58), (81, 82))}  # by stride; (width, height)
ANCHORS_FOR = 416  # the size of the images for which they were published
CENTRE_SCALE = 1.05  # lets a centre reach the edge of its cell with a finite logit
LARGEST_LOG_SIZE = 4.0  # limits boxes to e⁴ anchors: exp of a bad prediction must stay finite
IGNORE_IOU = 0.7  # a prior without an object is no error where its box covers one by this much
BOX_WEIGHT = 2.0


@dataclass(frozen=True)
class Priors:
    """All P priors of an image size: cells (P, 2) by column and row, strides (P, 1), widths and heights (P, 2)."""

    cells: Tensor
    strides: Tensor
    sizes: Tensor


def priors(height: int, width: int) -> Priors:
    """Return the priors of images (N, 3, height, width); the anchors grow with the longer side."""
    cells, strides, sizes = [], [], []
    for stride, anchors in ANCHORS.items():
        rows, columns = torch.meshgrid(torch.arange(height // stride), torch.arange(width // stride), indexing="ij")
        cell = torch.stack([columns, rows], -1).reshape(-1, 2)
        for anchor in anchors:
            cells.append(cell)
            strides.append(torch.full((len(cell), 1), stride))
            sizes.append(torch.tensor(anchor).expand(len(cell), 2) * max(height, width) / ANCHORS_FOR)
    return Priors(torch.cat(cells), torch.cat(strides), torch.cat(sizes))


def predictions(outputs: Sequence[Tensor]) -> Tensor:
    """Return the two maps' outputs (N, 3·(5 + classes), h, w) as one row per prior (N, P, 5 + classes)."""
    rows = [output.reshape(len(output), 3, -1, *output.shape[2:]).movedim(2, -1).flatten(1, 3) for output in outputs]
    return torch.cat(rows, 1)


def decoded(raw: Tensor, given: Priors) -> Tensor:
    """Return the boxes (N, P, 4) of raw predictions (N, P, at least 4)."""
    offsets = (raw[..., :2].sigmoid() - 0.5) * CENTRE_SCALE + 0.5
    centres = (given.cells + offsets) * given.strides
    sizes = given.sizes * raw[..., 2:4].clamp(max=LARGEST_LOG_SIZE).exp()
    boxes: Tensor = box_convert(torch.cat([centres, sizes], -1), "cxcywh", "xyxy")
    return boxes


def assigned(boxes: Tensor, given: Priors) -> Tensor:
    """Return for each prior (P,) which of the boxes (K, 4) it has to predict, -1 for none.

    A box belongs to the priors in whose cell its centre is and whose shape is the most like it. One anchor is on both
    maps, so these may be two. A prior that two boxes belong to predicts the one that it resembles more.
    """
    if not len(boxes):
        return torch.full((len(given.cells),), -1)
    centres = box_convert(boxes, "xyxy", "cxcywh")[:, None, :2]
    inside = (centres.div(given.strides, rounding_mode="floor") == given.cells).all(-1)
    likeness = _shape_iou(boxes[:, None, 2:] - boxes[:, None, :2], given.sizes) * inside
    best = likeness == likeness.amax(1, keepdim=True)
    value, index = torch.where(best & inside, likeness, -1.0).max(0)
    return torch.where(value >= 0, index, -1)


def _shape_iou(first: Tensor, second: Tensor) -> Tensor:
    """Return the IoU of boxes of sizes (..., 2) with the same centre."""
    common = torch.minimum(first, second).prod(-1)
    return common / (first.prod(-1) + second.prod(-1) - common)


def loss(outputs: Sequence[Tensor], targets: Sequence[Target], given: Priors) -> Tensor:
    """Return the loss of a batch: CIoU of boxes, BCE of objectness and of classes, per prior that has an object."""
    raw = predictions(outputs)
    boxes = decoded(raw, given)
    parts, positives = [], 0
    for prediction, box, target in zip(raw, boxes, targets, strict=True):
        matches = assigned(target["boxes"], given)
        parts.append(_image_loss(prediction, box, target, matches))
        positives += int((matches >= 0).sum())
    return torch.stack(parts).sum() / max(positives, 1)


def _image_loss(raw: Tensor, boxes: Tensor, target: Target, matches: Tensor) -> Tensor:
    """Return the sum of one image's losses, given raw predictions (P, 5 + classes) and their boxes (P, 4)."""
    positive = matches >= 0
    own = matches[positive]
    box: Tensor = complete_box_iou_loss(boxes[positive], target["boxes"][own], reduction="sum")
    covers = (box_iou(boxes.detach(), target["boxes"]) > IGNORE_IOU).any(1)
    counted = positive | ~covers
    object_ = F.binary_cross_entropy_with_logits(raw[counted, 4], positive[counted].float(), reduction="sum")
    logits = raw[positive, 5:]
    classes = F.one_hot(target["labels"][own], logits.shape[1]).float()
    class_ = F.binary_cross_entropy_with_logits(logits, classes, reduction="sum")
    return BOX_WEIGHT * box + object_ + class_


@torch.no_grad()
def detections(
    outputs: Sequence[Tensor], size: tuple[int, int], *, least: float = 0.01, overlap: float = 0.5, most: int = 100
) -> list[Target]:
    """Return each image's boxes with "scores" and "labels", best first, after non-maximum suppression by class.

    Args:
        outputs: the network's two maps.
        size: height and width of the images.
        least: the least score of a box: objectness times the class's probability.
        overlap: of two boxes of one class with a larger IoU, the one with the lower score is left out.
        most: the number of boxes kept in an image.
    """
    raw = predictions(outputs)
    found = []
    for prediction, boxes in zip(raw, decoded(raw, priors(*size)), strict=True):
        scores = prediction[:, 4:5].sigmoid() * prediction[:, 5:].sigmoid()
        prior, label = torch.nonzero(scores > least, as_tuple=True)
        clipped, score = clip_boxes_to_image(boxes[prior], size), scores[prior, label]
        kept = batched_nms(clipped, score, label, overlap)[:most]
        found.append({"boxes": clipped[kept], "scores": score[kept], "labels": label[kept]})
    return found
