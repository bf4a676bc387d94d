"""Tensors on disk: hashes, files that are whole or not there, and errors a person understands."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from attn_surgeon.errors import ArtefactError
from attn_surgeon.files import replacing

_PAYLOAD, _DIGEST = "attn_surgeon", "attn_surgeon_sha256"


def write(path: Path, tensors: Mapping[str, Tensor], payload: Mapping[str, Any]) -> None:
    """Write tensors and their story to one file, atomically: temporary file, fsync, rename.

    Raises ArtefactError where the folder cannot be written; nothing is left behind then.
    """
    metadata = _metadata(json.dumps(payload, sort_keys=True))
    try:
        with replacing(path) as temporary:
            save_file(_separate(tensors), temporary, metadata)
            _sort_metadata(Path(temporary))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ArtefactError(f"cannot write: {reason}", str(path), "choose another place with --output") from None


def _sort_metadata(path: Path) -> None:
    """Put the metadata in order, which safetensors leaves to chance, so that equal artefacts are equal files."""
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(text) == length:  # tensors begin behind the header, so another length would move them
            file.seek(8)
            file.write(text)


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give every name a tensor of its own; tied parameters and views share memory, which the format forbids."""
    seen: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        address = plain.untyped_storage().data_ptr()
        shared = address in seen or plain.untyped_storage().nbytes() != plain.nbytes
        separate[name] = plain.clone() if shared and plain.numel() else plain
        seen.add(address)
    return separate


def read_payload(path: Path) -> dict[str, Any]:
    """Read the story of an artefact without its tensors; raise ArtefactError where it is none or was damaged."""
    with _opened(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
    text = metadata.get(_PAYLOAD)
    if text is None:
        raise ArtefactError("this is no artefact of attn-surgeon", str(path), "give such weights with --weights FILE")
    if metadata != _metadata(text):
        raise damaged(path, "its description does not match its checksum")
    payload = json.loads(text)
    if not isinstance(payload, dict):
        raise damaged(path, "its description is none of this tool's")
    return payload


def _metadata(text: str) -> dict[str, str]:
    return {_PAYLOAD: text, _DIGEST: hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of an artefact."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping


def _opened(path: Path) -> Any:
    if not path.is_file():
        what = "this is a folder" if path.is_dir() else "there is no such file"
        above = path.parent.parent / path.name
        make = "make one with: attn-surgeon insert NETWORK --block BLOCK --after SITE"
        raise ArtefactError(what, str(path), f"did you mean {above}?" if above.is_file() else make)
    if not os.access(path, os.R_OK):
        raise ArtefactError("this file may not be read", str(path), "see its permissions")
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(path, f"it cannot be read ({str(error).strip().splitlines()[0]})") from None


def damaged(path: Path, reason: str) -> ArtefactError:
    """Make the error for a file whose bytes are not those that were written."""
    return ArtefactError(f"the artefact is damaged: {reason}", str(path), "make it again, or take it from a backup")
