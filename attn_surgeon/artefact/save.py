"""Save operated networks: one file with the tensors and all metadata, or only the grafts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.header import is_artefact
from attn_surgeon.artefact.metadata import FORMAT
from attn_surgeon.artefact.provenance import provenance_of
from attn_surgeon.artefact.recipe_from_network import recipe_of
from attn_surgeon.artefact.saving_checks import require_no_graft_weights, require_plain_values
from attn_surgeon.artefact.storage import write
from attn_surgeon.artefact.tensors import hash_tensors, split_tensors
from attn_surgeon.errors import ArtefactError, option
from attn_surgeon.networks import load_source
from attn_surgeon.surgery.certificate import Certificate
from attn_surgeon.surgery.graft_check import check_remembered
from attn_surgeon.surgery.installed_grafts import list_grafts


def save(
    model: nn.Module,
    path: str | Path,
    *,
    patch: bool = False,
    certificate: Certificate | None = None,
    overwrite: bool = False,
) -> None:
    """Save an operated network as one file: an artefact, or a patch of the grafts alone.

    Writing is atomic: after an error the file is unchanged. An existing artefact is replaced, as `torch.save` and
    `safetensors.torch.save_file` do. Any other existing file is kept unless `overwrite`, because downloaded weights are
    often called `model.safetensors` too.

    Args:
        model: a network with grafts; one without any can be saved too.
        path: the file to write, usually `NAME.safetensors`.
        patch: write only the grafts' tensors and the hash of the base's tensors; it loads onto the same base only.
        certificate: a certificate of `certify` to store with the network.
        overwrite: replace a file that is not an artefact.

    Raises:
        LostGraftError: if a graft no longer runs.
        ArtefactError: if the network's tensors cannot be saved, or the file exists or cannot be written.

    >>> import tempfile, torch, attn_surgeon
    >>> from attn_surgeon.networks.demo import load_demo
    >>> x = torch.randn(1, 1, 32, 32)
    >>> model = attn_surgeon.insert(load_demo(), "cbam", after="layer3", example=x)
    >>> folder = tempfile.TemporaryDirectory()
    >>> attn_surgeon.save(model, f"{folder.name}/demo.safetensors")
    >>> again = attn_surgeon.load(f"{folder.name}/demo.safetensors", model=load_demo())
    >>> torch.equal(again(x), model(x))
    True
    >>> folder.cleanup()
    """
    _require_replaceable(Path(path), overwrite=overwrite)
    require_plain_values(model)
    check_remembered(model, _meta_input(model))
    base, grafts = split_tensors(model)
    require_no_graft_weights(base)
    provenance = provenance_of(model)
    grafted = list_grafts(model)
    payload = {
        "format": FORMAT,
        "patch": patch,
        "source": provenance.source.to_dict(),
        "preprocessing": provenance.preprocessing and provenance.preprocessing.to_dict(),
        "class_names": provenance.class_names,
        "grafts": [
            {"key": item.key, **item.graft.moved(replace(item.graft.placement, owner=item.owner)).to_dict()}
            for item in grafted
        ],
        "recipe": recipe_of(model),
        "base_sha256": hash_tensors(base),
        "grafts_sha256": hash_tensors(grafts),
        "certificate": certificate and certificate.to_dict(),
    }
    write(Path(path), grafts if patch else base | grafts, payload)


def _require_replaceable(path: Path, *, overwrite: bool) -> None:
    if path.is_file() and not overwrite and not is_artefact(path):
        what = "the file exists and is no artefact of attn-surgeon"
        raise ArtefactError(what, str(path), "choose another name, or pass overwrite=True to replace it")


def _meta_input(model: nn.Module) -> Tensor | None:
    """Return an input (1, C, H, W) on the meta device, or None if the preprocessing is not known."""
    images = provenance_of(model).preprocessing
    return None if images is None else torch.empty(1, images.channels, *images.size, device="meta")


def require_base_again(model: nn.Module) -> None:
    """Raise ArtefactError if a network's source has different weights each time, so that no patch would fit."""
    spec = provenance_of(model).source
    again = hash_tensors(split_tensors(load_source(spec).model)[0])
    if again != hash_tensors(split_tensors(model)[0]):
        what = "a patch needs the same base again, but this source has different weights each time"
        hint = f"name fixed weights with {option('weights', 'FILE')}, or write a whole artefact"
        raise ArtefactError(what, spec.text, hint)
