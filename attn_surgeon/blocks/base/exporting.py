"""Whether an ONNX file is being made, which needs no care for infinity and no saving of memory."""

from __future__ import annotations

import torch


def exporting_onnx() -> bool:
    """Return whether blocks are being written to an ONNX file."""
    if torch.jit.is_scripting():  # type: ignore[attr-defined]
        return False
    else:  # a script has only the first branch
        return torch.onnx.is_in_onnx_export()
