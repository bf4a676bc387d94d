"""Adaptive average pooling by matrix products, which exports correctly with dynamic sizes."""

from __future__ import annotations

import torch
from torch import Tensor


def pooling_matrix(cells: int, length: int, like: Tensor) -> Tensor:
    """Return the matrix (cells, length) of adaptive average pooling along one axis."""
    cell = torch.arange(cells, device=like.device).unsqueeze(1)
    place = torch.arange(length, device=like.device)
    start, end = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    inside = (place >= start) & (place < end)
    return inside.to(like.dtype) / (end - start).to(like.dtype)
