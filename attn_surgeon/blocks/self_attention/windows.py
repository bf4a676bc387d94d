"""Partition maps of any size into windows and join them again, and split tokens into heads."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from attn_surgeon.blocks.base.exporting import exporting_onnx


def parts_of(heads: int, most: int = 4) -> int:
    """Return the number of equal parts in which heads are computed one after the other, to save memory."""
    return math.gcd(heads, most)


def run_parts(parts: nn.ModuleList, axis: int, *inputs: Any) -> Tensor:
    """Return the outputs of parts of the heads, joined along an axis; in an ONNX file they are one part."""
    if not exporting_onnx():
        return torch.cat([part(*inputs) for part in parts], axis)
    first = parts[0]
    whole = {name: torch.cat([part.get_parameter(name) for part in parts]) for name, _ in first.named_parameters()}
    made: Tensor = functional_call(first, whole, inputs)
    return made


def count_windows(length: int, step: int, before: int = 0) -> int:
    """Return the number of windows that cover a side, the first of which starts `before` positions outside."""
    return (length + before + step - 1) // step


def cut(x: Tensor, step: int, *, before: int = 0, halo: int = 0) -> Tensor:
    """Return (N, C, H, W) as windows (N · rows · columns, side², C), zeros outside the map.

    Windows are step + 2 · halo wide and start every step positions, the first `before` positions and a halo outside.
    """
    high, wide = (count_windows(length, step, before) for length in x.shape[2:])
    side, left = step + 2 * halo, before + halo
    more = -(-side // step) - 1  # steps by which the last window reaches further than the first of it
    right, below = ((count + more) * step - length - left for count, length in ((wide, x.shape[3]), (high, x.shape[2])))
    padded = F.pad(x, (left, right, left, below))
    windows = _cut_axis(_cut_axis(padded, 2, high, step, side), 4, wide, step, side)
    return windows.permute(0, 2, 4, 3, 5, 1).reshape(x.shape[0] * high * wide, side * side, x.shape[1])


def _cut_axis(x: Tensor, axis: int, count: int, step: int, side: int) -> Tensor:
    """Return an axis as two: windows, and positions in each."""
    shape, pieces = (*x.shape[:axis], count, step, *x.shape[axis + 1 :]), []
    for start in range(0, side, step):
        steps = x.narrow(axis, start, count * step).reshape(shape)
        pieces.append(steps.narrow(axis + 1, 0, min(step, side - start)))
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, axis + 1)


def inside(x: Tensor, step: int, *, before: int = 0, halo: int = 0) -> Tensor:
    """Return which positions of the windows of (N, C, H, W) are inside the map: (windows, 1, 1, side²)."""
    ones = x.new_ones(x.shape[0], 1, *x.shape[2:])
    return cut(ones, step, before=before, halo=halo).transpose(1, 2).unsqueeze(1) > 0


def join(windows: Tensor, like: Tensor, step: int, *, before: int = 0) -> Tensor:
    """Return windows (N · rows · columns, step², C) joined to a map of the size of another."""
    n, _, height, width = like.shape
    high, wide = count_windows(height, step, before), count_windows(width, step, before)
    grid = windows.reshape(n, high, wide, step, step, windows.shape[2]).permute(0, 5, 1, 3, 2, 4)
    whole = grid.reshape(n, windows.shape[2], high * step, wide * step)
    return whole.narrow(2, before, height).narrow(3, before, width)


def split_heads(tokens: Tensor, width: int) -> Tensor:
    """Return (N, L, C) as (N, C / width, L, width)."""
    return tokens.reshape(tokens.shape[0], tokens.shape[1], -1, width).transpose(1, 2)
