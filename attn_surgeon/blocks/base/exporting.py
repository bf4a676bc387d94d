"""Detect ONNX export, in which blocks skip the handling of infinities and the saving of memory."""

from __future__ import annotations

import torch


def exporting_onnx() -> bool:
    """Return whether an ONNX export is running."""
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        return False
    else:  # a script has only the first branch
        return torch.onnx.is_in_onnx_export()
