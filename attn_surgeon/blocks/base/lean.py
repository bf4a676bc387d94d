"""Is an ONNX file being made? It is to hold no more than a formula needs: no care for infinity, no saving of memory."""

from __future__ import annotations

import torch


def lean() -> bool:
    """Say whether blocks are being written to an ONNX file."""
    return torch.onnx.is_in_onnx_export()
