"""Sliding-window inference: predict whole images window by window, averaging logits where windows overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS = 2**20  # the maximum number of pixels in a batch of windows


def starts(length: int, window: int, stride: int) -> list[int]:
    """Return the offsets of windows along a side; the last window ends at the end of the side.

    >>> starts(10, 4, 3)
    [0, 3, 6]
    """
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def bands(
    predict: Callable[[Tensor], Tensor], image: Tensor, window: tuple[int, int], overlap: float
) -> Iterator[tuple[int, Tensor]]:
    """Yield the scores of an image (C, H, W) in bands from the top down: (first row, scores (K, rows, W)).

    Only one row of windows is in memory at a time. An image smaller than a window is padded with zeros.

    Args:
        predict: a function that maps windows (N, C, h, w) to scores (N, K, h, w).
        image: the image (C, H, W).
        window: the size (h, w) of a window.
        overlap: the overlap of neighbouring windows, as a fraction of their side.
    """
    height, width = image.shape[-2:]
    stride = [max(1, round(side * (1 - overlap))) for side in window]
    image = F.pad(image, (0, max(0, window[1] - width), 0, max(0, window[0] - height)))
    tops = starts(image.shape[1], window[0], stride[0])
    lefts = starts(image.shape[2], window[1], stride[1])
    band: Tensor | None = None
    counts = torch.zeros(window[0], image.shape[2])
    for top, next_top in zip(tops, [*tops[1:], image.shape[1]], strict=True):
        for left, scores in _row(predict, image[:, top : top + window[0]], lefts, window[1]):
            if band is None:
                band = scores.new_zeros(len(scores), *counts.shape)
                counts = counts.to(scores.device)
            band[:, :, left : left + window[1]] += scores
            counts[:, left : left + window[1]] += 1
        assert band is not None
        rows = next_top - top  # no later window overlaps these
        finished = band[:, :rows] / counts[:rows]
        band, counts = _shifted(band, rows), _shifted(counts, rows)
        yield top, finished[:, : height - top, :width]


def _row(
    predict: Callable[[Tensor], Tensor], strip: Tensor, lefts: list[int], width: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield the left edge and the scores of each window of a row."""
    batch_size = max(1, PIXELS // (strip.shape[1] * width))
    for first in range(0, len(lefts), batch_size):
        batch = lefts[first : first + batch_size]
        scores = predict(torch.stack([strip[:, :, left : left + width] for left in batch]))
        yield from zip(batch, scores, strict=True)


def _shifted(band: Tensor, rows: int) -> Tensor:
    """Return a band without its first rows, with the same number of zero rows appended."""
    return torch.cat([band[..., rows:, :], torch.zeros_like(band[..., :rows, :])], -2)
