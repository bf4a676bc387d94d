"""Read an artefact's metadata without its tensors, and validate every value before it is used."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attn_surgeon.artefact.provenance import Provenance
from attn_surgeon.artefact.storage import damaged, read_payload
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import ArtefactError, SurgeonError
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.surgery.certificate import Certificate
from attn_surgeon.surgery.plan import Graft
from attn_surgeon.surgery.sites.layouts import LAYOUTS, Feature
from attn_surgeon.validation import validated

FORMAT = 1
_LARGEST_SIZE = 2**31 - 1


@dataclass(frozen=True)
class Artefact:
    """The metadata of an artefact.

    Args:
        path: the file.
        patch: whether it has only the grafts' tensors.
        provenance: where the network comes from.
        grafts: pairs of a graft's key within its owner, and the graft.
        base_sha256: the hash of the base's tensors.
        grafts_sha256: the hash of the grafts' tensors.
        certificate: the stored certificate, if any.
        recipe: the recipe as plain data.
    """

    path: Path
    patch: bool
    provenance: Provenance
    grafts: tuple[tuple[str, Graft], ...]
    base_sha256: str
    grafts_sha256: str
    certificate: Certificate | None
    recipe: Mapping[str, Any]


@dataclass(frozen=True)
class _Stored:
    """The metadata as stored in JSON."""

    patch: bool
    source: SourceSpec
    preprocessing: Preprocessing | None
    class_names: tuple[str, ...] | None
    grafts: tuple[Mapping[str, Any], ...]
    recipe: Mapping[str, Any]
    base_sha256: str
    grafts_sha256: str
    certificate: Mapping[str, Any] | None


def read_artefact(path: str | Path) -> Artefact:
    """Read an artefact's metadata; raise ArtefactError if the file is no artefact, damaged, or of a newer format."""
    path = Path(path)
    payload = read_payload(path)
    if (found := payload.pop("format", None)) != FORMAT:
        what = f"its format is {found}, this version reads {FORMAT}"
        raise ArtefactError(what, str(path), "install the newest attn-surgeon")
    try:
        stored = validated(_Stored, payload, ArtefactError)
        certificate = None if stored.certificate is None else Certificate.from_dict(stored.certificate)
        grafts = tuple(_graft(entry) for entry in stored.grafts)
    except SurgeonError as error:
        raise damaged(path, f"its metadata is invalid: {error.what}") from None
    provenance = Provenance(stored.source, stored.preprocessing, stored.class_names)
    hashes = stored.base_sha256, stored.grafts_sha256
    return Artefact(path, stored.patch, provenance, grafts, *hashes, certificate, stored.recipe)


def _graft(entry: Mapping[str, Any]) -> tuple[str, Graft]:
    """Return a graft and its key; raise ArtefactError for invalid identifiers, because code is generated from them."""
    graft = validated(Graft, {name: value for name, value in entry.items() if name != "key"}, ArtefactError)
    validated(BlockSpec, graft.block, ArtefactError)
    key, place = validated(str, entry.get("key"), ArtefactError), graft.placement
    plain = key.isprintable() and not {'"', "\\"} & set(key) if place.kind == "edge" else _is_identifier(key)
    if not plain or not all(map(_is_identifier, (place.method, *place.binding))):
        raise ArtefactError("a name in it is no identifier")
    if min(graft.calls, graft.parameters, place.argument) < 0:
        raise ArtefactError(f"a count of '{graft.site}' is negative")
    if not all(_is_consistent(feature) for feature in (graft.feature, graft.second) if feature is not None):
        raise ArtefactError(f"the shape of '{graft.site}' does not fit its layout, channels or dtype")
    return key, graft


def _is_consistent(feature: Feature) -> bool:
    """Whether a feature's shape, layout, channels and dtype agree, so that blocks can be built for it."""
    sizes = dict(zip(feature.layout, feature.shape, strict=False))
    dtype = getattr(torch, feature.dtype, None)
    return (
        feature.layout in LAYOUTS
        and len(feature.shape) == len(feature.layout)
        and all(0 < size <= _LARGEST_SIZE for size in feature.shape)
        and feature.channels == sizes["C"]
        and 0 <= feature.prefix < _LARGEST_SIZE
        and all(0 < side <= _LARGEST_SIZE for side in feature.grid or ())
        and isinstance(dtype, torch.dtype)
        and dtype.is_floating_point
    )


def _is_identifier(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)
