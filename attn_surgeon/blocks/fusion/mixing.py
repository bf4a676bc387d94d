"""A weighted mean of two maps whose weights add up to 1."""

from __future__ import annotations

from torch import Tensor

from attn_surgeon.blocks.base.outer import add_residual


def mix(x: Tensor, y: Tensor, share: Tensor) -> Tensor:
    """Return x · (1 − share) + y · share, which is x bit for bit where y has no share."""
    return add_residual(x, share.to(x.dtype) * (y - x))
