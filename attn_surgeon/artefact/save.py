"""Save operated networks: one file with the tensors and all metadata, or only the grafts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.metadata import FORMAT
from attn_surgeon.artefact.provenance import provenance_of
from attn_surgeon.artefact.recipe_of import recipe_of
from attn_surgeon.artefact.savable import require_no_graft_weights, require_plain_values
from attn_surgeon.artefact.storage import write
from attn_surgeon.artefact.tensors import hash_tensors, split_tensors
from attn_surgeon.errors import ArtefactError, option
from attn_surgeon.networks import load_source
from attn_surgeon.surgery.certificate import Certificate
from attn_surgeon.surgery.check import check_remembered
from attn_surgeon.surgery.installed import list_grafts


def save(model: nn.Module, path: str | Path, *, patch: bool = False, certificate: Certificate | None = None) -> None:
    """Save an operated network as one file, or as a patch that holds only the grafts and the base's hash.

    Raises LostGraftError where one of its grafts does not run any more, and ArtefactError where the file cannot be
    written; it is then not there, or the one it was before.
    """
    require_plain_values(model)
    check_remembered(model, _meta_input(model))
    base, grafts = split_tensors(model)
    require_no_graft_weights(base)
    provenance = provenance_of(model)
    made = list_grafts(model)
    payload = {
        "format": FORMAT,
        "patch": patch,
        "source": provenance.source.to_dict(),
        "preprocessing": provenance.preprocessing and provenance.preprocessing.to_dict(),
        "class_names": provenance.class_names,
        "grafts": [
            {"key": item.key, **item.graft.moved(replace(item.graft.placement, owner=item.owner)).to_dict()}
            for item in made
        ],
        "recipe": recipe_of(model),
        "base_sha256": hash_tensors(base),
        "grafts_sha256": hash_tensors(grafts),
        "certificate": certificate and certificate.to_dict(),
    }
    write(Path(path), grafts if patch else base | grafts, payload)


def _meta_input(model: nn.Module) -> Tensor | None:
    """Return an input (1, C, H, W) on the meta device, or None where the preprocessing is not known."""
    images = provenance_of(model).preprocessing
    return None if images is None else torch.empty(1, images.channels, *images.size, device="meta")


def require_base_again(model: nn.Module) -> None:
    """Raise ArtefactError where a network's source gives other weights each time, so that no patch would fit."""
    spec = provenance_of(model).source
    again = hash_tensors(split_tensors(load_source(spec).model)[0])
    if again != hash_tensors(split_tensors(model)[0]):
        what = "a patch needs its base again, and this source gives other weights each time"
        hint = f"give weights that stay, with {option('weights', 'FILE')}, or write a whole artefact"
        raise ArtefactError(what, spec.text, hint)
