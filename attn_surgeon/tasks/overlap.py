"""The overlap of predicted and true masks: the Dice loss, and intersections over unions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attn_surgeon.data.masks import IGNORED


def dice_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Return 1 - the mean over classes of 2·Σpg / (Σp² + Σg²) (Milletari et al., V-Net, 2016).

    Sums are over all pixels of a batch that are not ignored; classes in no mask, which have no gradient, are left out.

    Args:
        probabilities: (N, K, H, W).
        masks: class numbers (N, H, W).
    """
    known = masks != IGNORED
    targets = F.one_hot(torch.where(known, masks, 0).long(), probabilities.shape[1]).movedim(-1, 1) * known[:, None]
    probabilities, over = probabilities * known[:, None], (0, 2, 3)
    each = (
        2 * (probabilities * targets).sum(over) / (probabilities.square().sum(over) + targets.sum(over)).clamp(min=1e-6)
    )
    present = targets.sum(over) > 0
    return ((1 - each) * present).sum() / present.sum().clamp(min=1)


def confusion(predicted: Tensor, masks: Tensor, classes: int) -> Tensor:
    """Return counts of pixels (K, K) by class, a row each, and by prediction, without ignored ones."""
    known = masks != IGNORED
    pairs = masks[known].long() * classes + predicted[known].long()
    return pairs.bincount(minlength=classes**2).reshape(classes, classes).cpu()


def hits_and_unions(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return each class's intersection and union (K,) in pixels from counts (K, K)."""
    hits = counts.diagonal()
    return hits, counts.sum(0) + counts.sum(1) - hits


def ious(counts: Tensor) -> Tensor:
    """Return each class's intersection over union (K,) from counts (K, K); NaN where a class has no pixel in either."""
    hits, unions = hits_and_unions(counts)
    return hits.double() / unions


def mean_iou_by_image(hits: Tensor, unions: Tensor) -> Tensor:
    """Return what each image adds to the mean IoU over all pixels: jackknife pseudo-values (N,), whose mean it is.

    Args:
        hits: pixels (N, K) of each image that are of a class and predicted as it.
        unions: pixels (N, K) that are of a class, or predicted as it.
    """
    count, hits, unions = len(hits), hits.double(), unions.double()
    whole = (hits.sum(0) / unions.sum(0)).nanmean()
    without = ((hits.sum(0) - hits) / (unions.sum(0) - unions)).nanmean(1)
    values = count * whole - (count - 1) * without.where(~without.isnan(), whole)
    return values - values.mean() + whole
