"""Noise without a state: a hash of what it is for, so that it leaves torch's random streams alone.

What an image is given depends on a seed drawn when the block was made, on the image's own features and on the
block's weights, by their bits. So it is the same when a checkpoint computes a step again, and on a copy of the
block, and another at the next step, whose weights or features are others.

The hash is the 32-bit mixer of Wellons' "hash prospector": shifts and odd factors found by search. It is computed in
64-bit integers, none of whose products overflows.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_LOW = 0xFFFFFFFF


class Noise(nn.Module):
    """Draws numbers between 0 and 1, neither included, for a batch."""

    seed: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(_LOW, (1,)))

    @torch.no_grad()
    def forward(self, x: Tensor, weights: Iterable[Tensor], count: int) -> Tensor:
        """Return (N, count) numbers for N images, by their features and by weights."""
        state = self.seed
        for weight in weights:
            state = _scramble(state ^ _digest(weight[None]))
        keys = _scramble(state ^ _digest(x))[:, None]
        return _uniform(keys, torch.arange(count, device=x.device))


def _uniform(keys: Tensor, places: Tensor) -> Tensor:
    # the second key sets streams apart whose first keys are near, and which would repeat each other's numbers
    bits = _scramble(_scramble((keys + places) & _LOW) ^ _scramble(keys ^ 0x5BD1E995))
    return ((bits >> 9).float() + 0.5) * 2**-23  # 23 bits and a half, which single precision holds


def _digest(x: Tensor) -> Tensor:
    """Add up the bits of each of N, by where they are: a sum of integers is the same in any order."""
    values = x.float().flatten(1).view(torch.int32)
    total = (values * (torch.arange(values.shape[1], device=x.device) % 1021 + 1)).sum(1)
    return (total ^ (total >> 32)) & _LOW


def _scramble(bits: Tensor) -> Tensor:
    bits = ((bits ^ (bits >> 16)) * 0x21F0AAAD) & _LOW
    bits = ((bits ^ (bits >> 15)) * 0x735A2D97) & _LOW
    return bits ^ (bits >> 15)
