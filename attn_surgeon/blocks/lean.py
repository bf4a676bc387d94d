"""Is an ONNX file being made? It is to hold no more than a formula needs: no care for infinity, no saving of memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def lean() -> bool:
    """Say whether blocks are being written to an ONNX file."""
    return torch.onnx.is_in_onnx_export()


def channel_mean(x: Tensor) -> Tensor:
    """Return the mean over channels of (N, C, H, W) as (N, 1, H, W).

    In an ONNX file it is a convolution: runtimes sum over an inner axis several times as slowly.
    """
    if lean():
        return F.conv2d(x, x.new_full((1, x.shape[1], 1, 1), 1 / x.shape[1]))
    return x.mean(1, keepdim=True)
