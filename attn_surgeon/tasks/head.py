"""Give a network a head for the classes of its data, in a way that its artefact can be loaded again."""

from __future__ import annotations

import inspect
from dataclasses import replace

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.artefact.tensors import split_tensors
from attn_surgeon.errors import SourceError
from attn_surgeon.finetune.settings import TrainingError
from attn_surgeon.networks import SourceSpec, build
from attn_surgeon.networks.source import get_source
from attn_surgeon.surgery.rewrite.operated import grafts_in
from attn_surgeon.surgery.running import run
from attn_surgeon.user_code import found

# what factories call the number of classes
_NAMES = ("num_classes", "classes", "n_classes", "out_channels")


def fitted(loaded: LoadedNetwork, class_names: tuple[str, ...], seed: int) -> LoadedNetwork:
    """Name a classifier's classes, and replace its head where its outputs are not as many."""
    output = run(loaded.model, loaded.example)
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise TrainingError("the network does not return logits (N, classes)", loaded.name, "give a classifier")
    return with_classes(loaded, class_names, output.shape[1], seed)


def with_classes(loaded: LoadedNetwork, class_names: tuple[str, ...], width: int, seed: int) -> LoadedNetwork:
    """Name the classes, and replace the head where its `width` outputs are not as many; a note says so.

    The head is the one that the network's source builds for so many classes, so the artefact needs nothing but that
    argument. Raises TrainingError where the source takes none, or more than a head would change.
    """
    provenance, notes = replace(loaded.provenance, class_names=class_names), loaded.notes
    heads: list[str] = []
    if width != len(class_names):
        widths = (width, len(class_names))
        spec = _trusted(loaded, widths)
        said = {_argument(spec, widths): len(class_names)}
        heads = _replace(loaded.model, replace(spec, args={**spec.args, **said}), widths, seed)
        provenance = replace(provenance, source=replace(provenance.source, args={**provenance.source.args, **said}))
        notes += (f"the head {', '.join(heads)} is new: {len(class_names)} outputs in place of {width}",)
    set_provenance(loaded.model, provenance)
    return replace(loaded, notes=notes, fresh=tuple(heads))


def _trusted(loaded: LoadedNetwork, widths: tuple[int, int]) -> SourceSpec:
    """Give the source that may be built again."""
    spec = loaded.provenance.source
    if not get_source(spec.kind).user_code:
        return spec
    if loaded.trusted is None:
        raise _refusal(spec, widths)
    return loaded.trusted


def _argument(spec: SourceSpec, widths: tuple[int, int]) -> str:
    """Name the argument of a source that is the number of classes."""
    if not get_source(spec.kind).user_code:
        return _NAMES[0]
    with found(spec.name, SourceError) as factory:
        taken = [] if isinstance(factory, nn.Module) else list(inspect.signature(factory).parameters)
    name = next((name for name in _NAMES if name in taken), None)
    if name is None:
        raise _refusal(spec, widths)
    return name


def _replace(model: nn.Module, spec: SourceSpec, widths: tuple[int, int], seed: int) -> list[str]:
    """Put the layers that differ in a network built anew into the one there is, and name them."""
    fresh = _built(spec, widths, seed)
    old, new = split_tensors(model)[0], split_tensors(fresh)[0]
    if old.keys() != new.keys():
        raise _refusal(spec, widths)
    differ = {name for name in old if old[name].shape != new[name].shape}
    heads = sorted({name.rpartition(".")[0] for name in differ})
    resized = all((old[name].shape[0], new[name].shape[0]) == widths for name in differ)
    if not heads or not resized or any(grafts_in(model.get_submodule(head)) for head in heads):
        raise _refusal(spec, widths)
    for head in heads:
        like = model.get_submodule(head).weight
        model.set_submodule(head, fresh.get_submodule(head).to(device=like.device, dtype=like.dtype))  # type: ignore[arg-type]
    if hasattr(model, "num_classes"):
        model.num_classes = widths[1]  # type: ignore[assignment]
    return heads


def _built(spec: SourceSpec, widths: tuple[int, int], seed: int) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(spec)
    except SourceError as error:
        raise _refusal(spec, widths) from error


def _refusal(spec: SourceSpec, widths: tuple[int, int]) -> TrainingError:
    what = f"the head has {widths[0]} outputs, the data {widths[1]} classes, and no other head can be had"
    hint = f"let its factory take one of {', '.join(_NAMES)}, or give it the head in its own code and insert again"
    return TrainingError(what, spec.text, hint)
