"""Give a network a head for the classes of its data, in a way that its artefact can be loaded again."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from attn_surgeon.artefact import set_provenance, split_tensors
from attn_surgeon.errors import SourceError
from attn_surgeon.graph.forwards.operated import is_operated
from attn_surgeon.graph.running import run
from attn_surgeon.sources import SourceSpec, build
from attn_surgeon.subject import Subject
from attn_surgeon.train.settings import TrainingError

# Other kinds are code that the artefact names, which only the user may have run.
_KINDS = ("timm", "torchvision", "demo")


def fitted(subject: Subject, class_names: tuple[str, ...], seed: int) -> Subject:
    """Name the classes, and replace the head where its outputs are not as many; a note says so.

    The head is the one that the network's source builds for `num_classes`, so the artefact needs nothing but that
    argument. Raises TrainingError where the source takes none, or more than a head would change.
    """
    output = run(subject.model, subject.example)
    if not isinstance(output, Tensor) or output.ndim != 2:
        raise TrainingError("the network does not return logits (N, classes)", subject.name, "give a classifier")
    provenance, notes = replace(subject.provenance, class_names=class_names), subject.notes
    if output.shape[1] != len(class_names):
        spec = replace(provenance.source, args={**provenance.source.args, "num_classes": len(class_names)})
        heads = _replace(subject.model, spec, (output.shape[1], len(class_names)), seed)
        provenance = replace(provenance, source=spec)
        notes += (f"the head {', '.join(heads)} is new: {len(class_names)} outputs in place of {output.shape[1]}",)
    set_provenance(subject.model, provenance)
    return Subject(subject.model, provenance, notes)


def _replace(model: nn.Module, spec: SourceSpec, widths: tuple[int, int], seed: int) -> list[str]:
    """Put the layers that differ in a network built anew into the one there is, and name them."""
    fresh = _built(spec, widths, seed)
    old, new = split_tensors(model)[0], split_tensors(fresh)[0]
    if old.keys() != new.keys():
        raise _refusal(spec, widths)
    differ = {name for name in old if old[name].shape != new[name].shape}
    heads = sorted({name.rpartition(".")[0] for name in differ})
    resized = all((old[name].shape[0], new[name].shape[0]) == widths for name in differ)
    if not heads or not resized or any(is_operated(model.get_submodule(head)) for head in heads):
        raise _refusal(spec, widths)
    for head in heads:
        like = model.get_submodule(head).weight
        model.set_submodule(head, fresh.get_submodule(head).to(device=like.device, dtype=like.dtype))  # type: ignore[arg-type]
    if hasattr(model, "num_classes"):
        model.num_classes = widths[1]  # type: ignore[assignment]
    return heads


def _built(spec: SourceSpec, widths: tuple[int, int], seed: int) -> nn.Module:
    if spec.kind not in _KINDS:
        raise _refusal(spec, widths)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build(spec)
    except SourceError as error:
        raise _refusal(spec, widths) from error


def _refusal(spec: SourceSpec, widths: tuple[int, int]) -> TrainingError:
    what = f"the head has {widths[0]} outputs, the data {widths[1]} classes, and no other head can be had"
    return TrainingError(what, spec.text, "give the network one in its own code, then insert again")
