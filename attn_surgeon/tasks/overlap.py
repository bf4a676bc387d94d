"""How well shares of classes cover masks: the Dice loss, and intersections over unions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attn_surgeon.data.masks import IGNORED


def dice_loss(shares: Tensor, masks: Tensor) -> Tensor:
    """Give 1 - the mean over classes of 2·Σpg / (Σp² + Σg²), of shares (N, K, H, W) and masks (N, H, W).

    Sums go over all pixels of a batch but ignored ones, and classes that no mask shows are left out, which have no
    gradient here (Milletari et al., V-Net, 2016).
    """
    known = masks != IGNORED
    shown = F.one_hot(torch.where(known, masks, 0).long(), shares.shape[1]).movedim(-1, 1) * known[:, None]
    shares, over = shares * known[:, None], (0, 2, 3)
    each = 2 * (shares * shown).sum(over) / (shares.square().sum(over) + shown.sum(over)).clamp(min=1e-6)
    present = shown.sum(over) > 0
    return ((1 - each) * present).sum() / present.sum().clamp(min=1)


def confusion(guesses: Tensor, masks: Tensor, classes: int) -> Tensor:
    """Count pixels (K, K) by class, a row each, and by guess; ignored ones are left out."""
    from torchmetrics.functional.classification import multiclass_confusion_matrix

    counted = multiclass_confusion_matrix(guesses, masks.long(), classes, ignore_index=IGNORED, validate_args=False)
    return counted.cpu()


def ious(counts: Tensor) -> Tensor:
    """Give each class's intersection over union (K,) from counts (K, K); NaN where neither mask nor guess shows it."""
    hits = counts.diagonal().double()
    return hits / (counts.sum(0) + counts.sum(1) - hits)
