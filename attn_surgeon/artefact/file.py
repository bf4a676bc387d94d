"""Save and load operated networks: one file with the tensors and the whole story, or only the grafts."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.recipe import describe_operations
from attn_surgeon.artefact.savable import require_no_graft_weights, require_plain_values
from attn_surgeon.artefact.storage import damaged, hash_tensors, read_payload, read_tensors, write
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.blocks.base.registry import is_known
from attn_surgeon.errors import ArtefactError, BlockError
from attn_surgeon.networks import SourceSpec, build, load_source, parse_source
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.operations.fitting import build_blocks
from attn_surgeon.surgery.certificate import Certificate
from attn_surgeon.surgery.check import check_remembered
from attn_surgeon.surgery.installed import list_grafts
from attn_surgeon.surgery.isolation import copied, isolates
from attn_surgeon.surgery.perform import perform
from attn_surgeon.surgery.plan import Graft
from attn_surgeon.surgery.rewrite.binding import UntraceableError
from attn_surgeon.surgery.rewrite.grafts import RESERVED, grafts_of

FORMAT = 1
_PROVENANCE = "_attn_surgeon_provenance"
_OWN_CODE = ("file", "module")


@dataclass(frozen=True)
class Provenance:
    """Where a network comes from and what its images should look like."""

    source: SourceSpec
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Artefact:
    """What an artefact tells of itself, without its tensors."""

    path: Path
    patch: bool
    provenance: Provenance
    grafts: tuple[tuple[str, Graft], ...]
    base_sha256: str
    grafts_sha256: str
    certificate: Certificate | None
    recipe: Mapping[str, Any]


def provenance_of(model: nn.Module) -> Provenance:
    """Tell where a network comes from; a network handed over in Python is an `object`."""
    known: Provenance | None = vars(model).get(_PROVENANCE)
    return known or Provenance(SourceSpec("object", type(model).__name__))


def set_provenance(model: nn.Module, provenance: Provenance) -> None:
    """Note where a network comes from."""
    object.__setattr__(model, _PROVENANCE, provenance)


def save(model: nn.Module, path: str | Path, *, patch: bool = False, certificate: Certificate | None = None) -> None:
    """Save an operated network as one file, or as a patch that holds only the grafts and the base's hash.

    Raises LostGraftError where one of its grafts does not run any more, and ArtefactError where the file cannot be
    written; it is then not there, or the one it was before.
    """
    require_plain_values(model)
    check_remembered(model, _input_of(model))
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


def _input_of(model: nn.Module) -> Tensor | None:
    """Return the shape of the images that a network takes, as a meta tensor; None where that is not known."""
    images = provenance_of(model).preprocessing
    return None if images is None else torch.empty(1, images.channels, *images.size, device="meta")


def require_base_again(model: nn.Module) -> None:
    """See that a patch's base can be had again from its source; raise ArtefactError where it gives other weights."""
    spec = provenance_of(model).source
    again = hash_tensors(split_tensors(load_source(spec).model)[0])
    if again != hash_tensors(split_tensors(model)[0]):
        what = "a patch needs its base again, and this source gives other weights each time"
        raise ArtefactError(what, spec.text, "give weights that stay, with --weights FILE, or write a whole artefact")


def recipe_of(model: nn.Module) -> dict[str, Any]:
    """Tell a network's source, images and grafts as a recipe."""
    provenance = provenance_of(model)
    stored = provenance.source.to_dict()
    story = {"source": {"name": provenance.source.text, "weights": stored["weights"], "args": stored["args"]}}
    if provenance.preprocessing is not None:
        images = provenance.preprocessing.to_dict()
        names = ("size",) if provenance.preprocessing.assumed else ("mean", "std", "size")
        story["images"] = {name: images[name] for name in names}
    return story | describe_operations([made.graft for made in list_grafts(model)])


def split_tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Split a network's state into the base's tensors and the grafts'; grafts are under one name each."""
    own = tuple(f"{made.path}." for made in list_grafts(model))
    every_module = model.named_modules(remove_duplicate=False)  # one module can have several names
    reserved = tuple(f"{path}.{RESERVED}.".removeprefix(".") for path, module in every_module if grafts_of(module))
    state = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    base = {name: tensor for name, tensor in state.items() if not name.startswith(reserved)}
    return base, {name: tensor for name, tensor in state.items() if name.startswith(own)}


def read_artefact(path: str | Path) -> Artefact:
    """Read what an artefact tells of itself; raise ArtefactError where it is none, damaged, or too new."""
    path = Path(path)
    payload = read_payload(path)
    if payload.get("format") != FORMAT:
        what = f"its format is {payload.get('format')}, this version reads {FORMAT}"
        raise ArtefactError(what, str(path), "install the newest attn-surgeon")
    try:
        return _artefact(path, payload)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        line = " ".join(f"{type(error).__name__} {error}".split())
        raise damaged(path, f"its description is none of this tool's ({line})") from None


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
    """Read a graft and its key; raise ValueError for names that are none, because code is generated with them."""
    graft = Graft.from_dict({name: value for name, value in entry.items() if name != "key"})
    key, place = entry["key"], graft.placement
    plain = key.isprintable() and not {'"', "\\"} & set(key) if place.kind == "edge" else _is_name(key)
    if not plain or not all(map(_is_name, (place.method, *place.binding))):
        raise ValueError("a name in it is no name")
    _require_known(graft.block["name"])
    BlockSpec.read(**graft.block)
    return key, graft


def _require_known(block: str) -> None:
    """Refuse a block that is none of the catalogue's: its code is the user's, who must say where it is."""
    missing = next((part for part in block.split("+") if not is_known(part)), None)
    if missing is not None:
        where = f"--own {missing if ':' in missing else f'{missing}=file.py:Factory'}"
        hint = f"if it is your own, say where its code is: {where}, in Python register_block('{missing}', …)"
        raise BlockError(f"no block is called '{missing}'", "", hint)


def _is_name(text: str) -> bool:
    return text.isidentifier() and not keyword.iskeyword(text)


@isolates
def load(
    path: str | Path,
    *,
    source: str | None = None,
    model: nn.Module | None = None,
    weights: str | None = None,
) -> nn.Module:
    """Load an operated network in eval mode.

    Code is never run because a file names it: an artefact of a user's own network needs `source`
    ("file.py:factory"), and one of a network handed over in Python needs `model`, which is not changed. `weights`
    says where a patch's base has its weights now. Raises ArtefactError where the file is damaged or does not fit.
    """
    artefact = read_artefact(path)
    base = load_base(artefact, source=source, model=model, weights=weights)
    own, grafts = _read_split(artefact)
    if hash_tensors(grafts) != artefact.grafts_sha256:
        raise damaged(artefact.path, "the grafts' tensors do not match their checksum")
    if not artefact.patch:
        _fill_base(base, own, artefact)
    regraft(base, artefact)
    _fill(base, grafts, artefact, strict=False)
    set_provenance(base, artefact.provenance)
    return base.eval()


def load_original(path: str | Path, *, source: str | None = None, weights: str | None = None) -> nn.Module:
    """Load the network an artefact was made from, built afresh and never operated on, in eval mode."""
    artefact = read_artefact(path)
    base = load_base(artefact, source=source, weights=weights)
    if not artefact.patch:
        _fill_base(base, _read_split(artefact)[0], artefact)
    return base.eval()


def load_base(
    artefact: Artefact,
    *,
    source: str | None = None,
    model: nn.Module | None = None,
    weights: str | None = None,
) -> nn.Module:
    """Build the network an artefact was made from, without grafts; with its own weights for a patch only."""
    if model is not None:
        base = copied(model)
    else:
        spec = _trusted_spec(artefact, source)
        base = load_source(spec, weights=weights).model if artefact.patch else build(spec)
    if artefact.patch and hash_tensors(split_tensors(base)[0]) != artefact.base_sha256:
        what = "the patch does not fit this base: its weights are others"
        raise ArtefactError(what, str(artefact.path), "give the weights it was made for")
    return base


def _trusted_spec(artefact: Artefact, source: str | None) -> SourceSpec:
    spec = artefact.provenance.source
    if source is not None:
        return replace(parse_source(source), args=spec.args, weights=spec.weights)
    if spec.kind in _OWN_CODE:
        what = f"the network is {spec.name}, and loading runs no code that a file names"
        raise ArtefactError(what, str(artefact.path), f"if you trust it, say so: --source {spec.name}")
    if spec.kind == "object":
        what = f"the network was handed over in Python as a {spec.name}"
        raise ArtefactError(what, str(artefact.path), "load it there: attn_surgeon.load(path, model=network)")
    return spec


def _read_split(artefact: Artefact) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Read the base's tensors and the grafts'."""
    tensors = read_tensors(artefact.path)
    prefixes = tuple(f"{graft.placement.owner}.{RESERVED}.{key}.".removeprefix(".") for key, graft in artefact.grafts)
    grafts = {name: tensor for name, tensor in tensors.items() if name.startswith(prefixes)}
    return {name: tensor for name, tensor in tensors.items() if name not in grafts}, grafts


def _fill_base(base: nn.Module, tensors: dict[str, Tensor], artefact: Artefact) -> None:
    if hash_tensors(tensors) != artefact.base_sha256:
        raise damaged(artefact.path, "the base's tensors do not match their checksum")
    _fill(base, tensors, artefact, strict=True)


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], artefact: Artefact, *, strict: bool) -> None:
    state = model.state_dict()
    wrong = [name for name, tensor in tensors.items() if name not in state or state[name].shape != tensor.shape]
    missing = [name for name in state if name not in tensors] if strict else []
    if wrong or missing:
        what = f"its tensors do not fit the network: {', '.join((wrong + missing)[:3])}"
        raise ArtefactError(what, str(artefact.path), "give the network it was made for with --source")
    for name, parameter in (*model.named_parameters(), *model.named_buffers()):
        if name in tensors and parameter.dtype != tensors[name].dtype:
            parameter.data = parameter.data.to(tensors[name].dtype)
    model.load_state_dict(dict(tensors), strict=False)


def regraft(base: nn.Module, artefact: Artefact, *, seed: int = 0) -> None:
    """Make an artefact's grafts on its base again, freshly initialised; raise ArtefactError where they do not fit."""
    keys = [key for key, _ in artefact.grafts]
    grafts = [graft for _, graft in artefact.grafts]
    try:
        perform(base, grafts, build_blocks(base, grafts, seed), keys)
    except (UntraceableError, AttributeError, LookupError, TypeError, ValueError) as error:
        what = f"its grafts do not fit the network: {error}"
        raise ArtefactError(what, str(artefact.path), "give the network it was made for with --source") from None
