"""Compute the overlap of predicted and true masks: the Dice loss, confusion counts and intersections over unions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attn_surgeon.data.masks import IGNORED


def dice_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Return 1 - the mean over classes of 2·Σpg / (Σp² + Σg²) (Milletari et al., V-Net, 2016).

    Sums are over all pixels of a batch that are not ignored. Classes in none of its masks are left out of the mean.

    Args:
        probabilities: (N, K, H, W).
        masks: class numbers (N, H, W).
    """
    valid = masks != IGNORED
    targets = F.one_hot(torch.where(valid, masks, 0).long(), probabilities.shape[1]).movedim(-1, 1) * valid[:, None]
    probabilities, axes = probabilities * valid[:, None], (0, 2, 3)
    sums = probabilities.square().sum(axes) + targets.sum(axes)
    dice = 2 * (probabilities * targets).sum(axes) / sums.clamp(min=1e-6)
    present = targets.sum(axes) > 0
    return ((1 - dice) * present).sum() / present.sum().clamp(min=1)


def confusion(predicted: Tensor, masks: Tensor, classes: int) -> Tensor:
    """Return the confusion matrix (K, K) of pixels, a row for each class, without ignored pixels."""
    valid = masks != IGNORED
    pairs = masks[valid].long() * classes + predicted[valid].long()
    return pairs.bincount(minlength=classes**2).reshape(classes, classes).cpu()


def hits_and_unions(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the intersection and the union (K,) of each class, in pixels, from a confusion matrix (K, K)."""
    hits = counts.diagonal()
    return hits, counts.sum(0) + counts.sum(1) - hits


def ious(counts: Tensor) -> Tensor:
    """Return the IoU (K,) of each class from a confusion matrix (K, K); NaN where its union is empty."""
    hits, unions = hits_and_unions(counts)
    return hits.double() / unions


def mean_iou_by_image(hits: Tensor, unions: Tensor) -> Tensor:
    """Return jackknife pseudo-values (N,) of the images, whose mean is the mean IoU over all pixels.

    Args:
        hits: pixels (N, K) of each image that are of a class and predicted as it.
        unions: pixels (N, K) that are of a class, or predicted as it.
    """
    count, hits, unions = len(hits), hits.double(), unions.double()
    whole = (hits.sum(0) / unions.sum(0)).nanmean()
    without = ((hits.sum(0) - hits) / (unions.sum(0) - unions)).nanmean(1)
    values = count * whole - (count - 1) * without.where(~without.isnan(), whole)
    return values - values.mean() + whole
