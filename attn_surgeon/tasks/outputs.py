"""The main output of a network, among those that libraries return in a dict or an object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_NAMES = ("out", "logits")  # of torchvision and of transformers


def main_output(output: Any) -> Any:
    """Return the output named `out` or `logits`, in a mapping or an object; else the output itself.

    >>> main_output({"aux": 1, "out": 2}), main_output([3])
    (2, [3])
    """
    if isinstance(output, Mapping):
        return next((output[name] for name in _NAMES if name in output), output)
    return getattr(output, "logits", output)
