"""Deterministic noise from a hash, which does not use PyTorch's random number generators.

The noise of an image depends on a seed drawn when the block was built, on the bits of the image's features and on those
of the block's weights. So activation checkpointing recomputes the same noise, as does a copy of the block; at the next
step, the weights or features differ, and the noise does.

The hash is the 32-bit mixer of Wellons' "hash prospector": shifts and odd factors found by search. It is computed in
64-bit integers, so that no product overflows.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_LOW = 0xFFFFFFFF


class Noise(nn.Module):
    """Computes numbers in (0, 1) for a batch."""

    seed: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seed", torch.randint(_LOW, (1,)))

    @torch.no_grad()
    def forward(self, x: Tensor, weights: Iterable[Tensor], count: int) -> Tensor:
        """Return (N, count) numbers for N images from their features and the weights."""
        state = self.seed
        for weight in weights:
            state = _scramble(state ^ _digest(weight[None]))
        keys = _scramble(state ^ _digest(x))[:, None]
        return _uniform(keys, torch.arange(count, device=x.device))


def _uniform(keys: Tensor, places: Tensor) -> Tensor:
    # without the second hash of the keys, sequences with nearby keys would contain the same numbers
    bits = _scramble(_scramble((keys + places) & _LOW) ^ _scramble(keys ^ 0x5BD1E995))
    return ((bits >> 9).float() + 0.5) * 2**-23  # 23 bits and a half, which are exact in single precision


def _digest(x: Tensor) -> Tensor:
    """Return a weighted sum of the bits of each image (N,); a sum of integers does not depend on its order."""
    values = x.float().flatten(1).view(torch.int32)
    total = (values * (torch.arange(values.shape[1], device=x.device) % 1021 + 1)).sum(1)
    return (total ^ (total >> 32)) & _LOW


def _scramble(bits: Tensor) -> Tensor:
    bits = ((bits ^ (bits >> 16)) * 0x21F0AAAD) & _LOW
    bits = ((bits ^ (bits >> 15)) * 0x735A2D97) & _LOW
    return bits ^ (bits >> 15)
