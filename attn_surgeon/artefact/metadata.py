"""What an artefact says of itself, without its tensors; every value is checked before it is used."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attn_surgeon.artefact.provenance import Provenance
from attn_surgeon.artefact.storage import damaged, read_payload
from attn_surgeon.artefact.trust import require_registered
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import ArtefactError
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.surgery.certificate import Certificate
from attn_surgeon.surgery.plan import Graft

FORMAT = 1


@dataclass(frozen=True)
class Artefact:
    """The metadata of an artefact; `grafts` are pairs of the graft's key within its owner and the graft."""

    path: Path
    patch: bool
    provenance: Provenance
    grafts: tuple[tuple[str, Graft], ...]
    base_sha256: str
    grafts_sha256: str
    certificate: Certificate | None
    recipe: Mapping[str, Any]


def read_artefact(path: str | Path) -> Artefact:
    """Read an artefact's metadata; raise ArtefactError where it is none, damaged, or of a newer format."""
    path = Path(path)
    payload = read_payload(path)
    if payload.get("format") != FORMAT:
        what = f"its format is {payload.get('format')}, this version reads {FORMAT}"
        raise ArtefactError(what, str(path), "install the newest attn-surgeon")
    try:
        return _artefact(path, payload)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        line = " ".join(f"{type(error).__name__} {error}".split())
        raise damaged(path, f"its metadata is not attn-surgeon's ({line})") from None


def _artefact(path: Path, payload: Mapping[str, Any]) -> Artefact:
    certificate = payload["certificate"]
    names = payload["class_names"]
    return Artefact(
        path,
        payload["patch"],
        Provenance(
            SourceSpec.from_dict(payload["source"]),
            payload["preprocessing"] and Preprocessing.from_dict(payload["preprocessing"]),
            tuple(names) if names else None,
        ),
        tuple(_graft(entry) for entry in payload["grafts"]),
        payload["base_sha256"],
        payload["grafts_sha256"],
        certificate and Certificate.from_dict(certificate),
        payload["recipe"],
    )


def _graft(entry: Mapping[str, Any]) -> tuple[str, Graft]:
    """Read a graft and its key; raise ValueError for invalid identifiers, because code is generated with them."""
    graft = Graft.from_dict({name: value for name, value in entry.items() if name != "key"})
    key, place = entry["key"], graft.placement
    plain = key.isprintable() and not {'"', "\\"} & set(key) if place.kind == "edge" else _is_identifier(key)
    if not plain or not all(map(_is_identifier, (place.method, *place.binding))):
        raise ValueError("invalid identifier")
    require_registered(graft.block["name"])
    BlockSpec.read(**graft.block)
    return key, graft


def _is_identifier(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)
