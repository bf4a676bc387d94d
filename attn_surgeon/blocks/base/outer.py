"""The identity of blocks that are neither a gate nor a residual: y = x + γ(f − x), γ = 0 at first, one per channel.

It is computed as x − (γ · finite(x − f) + 0), which is x bit for bit while γ = 0:

- γ · d is −0 where d is negative, and x minus −0 turns an x of −0 into +0. Adding 0 leaves only +0 to subtract.
- 0 times infinity is no number. Where the difference is not finite (f overflows, or the difference does in half
  precision), it counts as 0: that place passes x on, and gives γ no gradient.

An ONNX file has neither: it tells the two zeros apart no more than anything after it does, and takes finite features.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.lean import lean


class Outer(nn.Module):
    """Blend what a block made, (N, C, H, W), into what it was given; for `paper` only what it made counts."""

    gamma: nn.Parameter | None

    def __init__(self, channels: int, init: str) -> None:
        super().__init__()
        self.gamma = None if init == "paper" else nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor, made: Tensor) -> Tensor:
        """Return x + γ(made − x), in the precision of x."""
        made = made.to(x.dtype)
        if self.gamma is None:
            return made
        if lean():
            return x - self.gamma.to(x.dtype) * (x - made)
        return x - (self.gamma.to(x.dtype) * _finite(x - made) + 0.0)


def add_residual(x: Tensor, made: Tensor) -> Tensor:
    """Return x + made in the precision of x, which is x bit for bit while what was made is zero, of either sign.

    A last layer of zeros makes −0 of what is negative and no number of what is infinite: the same cases as above.
    """
    if lean():
        return x + made.to(x.dtype)
    return x - (_finite(-made.to(x.dtype)) + 0.0)


def _finite(x: Tensor) -> Tensor:
    return torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)
