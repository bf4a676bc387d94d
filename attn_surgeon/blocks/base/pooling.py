"""Adaptive average pooling as a product with matrices, so that exported networks are right at any size."""

from __future__ import annotations

import torch
from torch import Tensor


def averages(cells: int, length: int, like: Tensor) -> Tensor:
    """Return the matrix (cells, length) of adaptive average pooling along a line."""
    cell = torch.arange(cells, device=like.device).unsqueeze(1)
    place = torch.arange(length, device=like.device)
    start, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    inside = (place >= start) & (place < end)
    return inside.to(like.dtype) / (end - start).to(like.dtype)
