"""Read and write the file format of artefacts: safetensors with JSON and its checksum in the metadata."""

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

from attn_surgeon.errors import ArtefactError, function, option
from attn_surgeon.files import replacing

_PAYLOAD, _DIGEST = "attn_surgeon", "attn_surgeon_sha256"


def write(path: Path, tensors: Mapping[str, Tensor], payload: Mapping[str, Any]) -> None:
    """Write tensors and metadata to one file, atomically.

    Raises ArtefactError if it cannot be written; no partial file is left behind.
    """
    metadata = _metadata(json.dumps(payload, sort_keys=True))
    try:
        with replacing(path) as temporary:
            save_file(_separate(tensors), temporary, metadata)
            _sort_metadata(Path(temporary))
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ArtefactError(f"cannot write: {reason}", str(path), "write it elsewhere") from None


def _sort_metadata(path: Path) -> None:
    """Sort the metadata, whose order safetensors leaves open, so that equal artefacts are equal files."""
    with path.open("rb+") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode().ljust(length)
        if len(text) == length:  # the tensors follow the header, so a different length would shift them
            file.seek(8)
            file.write(text)


def _separate(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors without shared memory, which safetensors requires: tied parameters and views are copied."""
    addresses: set[int] = set()
    separate = {}
    for name, tensor in tensors.items():
        plain = tensor.detach().cpu().contiguous()
        address = plain.untyped_storage().data_ptr()
        shared = address in addresses or plain.untyped_storage().nbytes() != plain.nbytes
        separate[name] = plain.clone() if shared and plain.numel() else plain
        addresses.add(address)
    return separate


def read_payload(path: Path) -> dict[str, Any]:
    """Read an artefact's metadata without its tensors; raise ArtefactError if the file is no artefact or damaged."""
    with _opened(path) as file:
        metadata: dict[str, str] = file.metadata() or {}
    text = metadata.get(_PAYLOAD)
    if text is None:
        hint = f"weights of another kind are loaded with {option('weights', 'FILE')}"
        raise ArtefactError("this is no artefact of attn-surgeon", str(path), hint)
    if metadata != _metadata(text):
        raise damaged(path, "its metadata does not match its checksum")
    try:
        payload = json.loads(text)
    except (ValueError, RecursionError):
        payload = None
    if not isinstance(payload, dict):
        raise damaged(path, "its metadata is no table")
    return payload


def _metadata(text: str) -> dict[str, str]:
    return {_PAYLOAD: text, _DIGEST: hashlib.sha256(text.encode()).hexdigest(), "format": "pt"}


def read_artefact_tensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of an artefact."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is not a mapping


def _opened(path: Path) -> Any:
    if not path.is_file():
        what = "this is a folder" if path.is_dir() else "there is no such file"
        one_folder_up = path.parent.parent / path.name
        make = "make one with: " + function(
            "insert(network, block, after=site, example=x) and save", "insert NETWORK --block BLOCK --after SITE"
        )
        raise ArtefactError(what, str(path), f"did you mean {one_folder_up}?" if one_folder_up.is_file() else make)
    if not os.access(path, os.R_OK):
        raise ArtefactError("this file may not be read", str(path), "see its permissions")
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(path, f"it cannot be read ({str(error).strip().splitlines()[0]})") from None


def damaged(path: Path, reason: str) -> ArtefactError:
    """Return the error for a damaged artefact."""
    return ArtefactError(f"the artefact is damaged: {reason}", str(path), "make it again, or take it from a backup")
