"""Recognise artefacts by the header of a safetensors file, without torch, so that listing a folder is fast."""

from __future__ import annotations

import json
from pathlib import Path

ARTEFACT_SUFFIX = ".safetensors"
_LARGEST_HEADER = 100_000_000  # bytes; safetensors allows no more


def is_artefact(path: Path) -> bool:
    """Whether a file is an artefact of attn-surgeon, by its header alone."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, _LARGEST_HEADER)))
        return "attn_surgeon" in header.get("__metadata__", {})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False
