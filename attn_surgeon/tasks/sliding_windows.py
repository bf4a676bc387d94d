"""Sliding windows: predict whole images window by window, averaging where windows overlap."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

PIXELS = 2**20  # of the windows in a batch


def starts(length: int, window: int, stride: int) -> list[int]:
    """Return where windows begin along a side; the last one ends at its end.

    >>> starts(10, 4, 3)
    [0, 3, 6]
    """
    last = max(0, length - window)
    return [*range(0, last, stride), last]


def bands(
    predict: Callable[[Tensor], Tensor], image: Tensor, window: tuple[int, int], overlap: float
) -> Iterator[tuple[int, Tensor]]:
    """Yield the scores of an image (C, H, W) from the top down, as (first row, scores (K, rows, W)).

    Only a row of windows is in memory at a time. An image smaller than a window is padded with zeros.

    Args:
        predict: maps windows (N, C, h, w) to scores (N, K, h, w).
        image: (C, H, W).
        window: (h, w).
        overlap: of neighbouring windows, as a fraction of their side.
    """
    height, width = image.shape[-2:]
    stride = [max(1, round(side * (1 - overlap))) for side in window]
    image = F.pad(image, (0, max(0, window[1] - width), 0, max(0, window[0] - height)))
    tops = starts(image.shape[1], window[0], stride[0])
    lefts = starts(image.shape[2], window[1], stride[1])
    band: Tensor | None = None
    counts = torch.zeros(window[0], image.shape[2])
    for top, below in zip(tops, [*tops[1:], image.shape[1]], strict=True):
        for left, scores in _row(predict, image[:, top : top + window[0]], lefts, window[1]):
            if band is None:
                band = scores.new_zeros(len(scores), *counts.shape)
                counts = counts.to(scores.device)
            band[:, :, left : left + window[1]] += scores
            counts[:, left : left + window[1]] += 1
        assert band is not None
        rows = below - top
        done = band[:, :rows] / counts[:rows]
        band, counts = _shifted(band, rows), _shifted(counts, rows)
        yield top, done[:, : height - top, :width]


def _row(
    predict: Callable[[Tensor], Tensor], strip: Tensor, lefts: list[int], width: int
) -> Iterator[tuple[int, Tensor]]:
    """Yield the left edge and the scores of each window of a row."""
    at_once = max(1, PIXELS // (strip.shape[1] * width))
    for first in range(0, len(lefts), at_once):
        chosen = lefts[first : first + at_once]
        scores = predict(torch.stack([strip[:, :, left : left + width] for left in chosen]))
        yield from zip(chosen, scores, strict=True)


def _shifted(band: Tensor, rows: int) -> Tensor:
    """Return a band without its first rows, with as many empty ones at its end."""
    return torch.cat([band[..., rows:, :], torch.zeros_like(band[..., :rows, :])], -2)
