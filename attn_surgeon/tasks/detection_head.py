"""Replace the head of a detector for the classes of the data, such that an artefact can rebuild the network."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.errors import SurgeonError
from attn_surgeon.networks import SourceSpec, build_network
from attn_surgeon.tasks.detectors.base import detector_of
from attn_surgeon.tasks.detectors.frozen_norms import lost_activations
from attn_surgeon.tasks.head import head_refusal, source_argument, trusted_spec

BACKGROUND = "__background__"  # the first class of torchvision's detectors


def known_classes(network: LoadedNetwork) -> tuple[str, ...] | None:
    """Return the names of the classes that a detector predicts, without background; None where they are not known."""
    names = network.provenance.class_names
    return names[1:] if names is not None and names[:1] == (BACKGROUND,) else names


def fit_detector(network: LoadedNetwork, class_names: tuple[str, ...], seed: int) -> LoadedNetwork:
    """Return a detector for these classes; its head is replaced where the number of classes or a name differs.

    Args:
        network: the network, which is changed in place.
        class_names: the classes of the data, without background.
        seed: the seed of the new head's weights.

    Raises:
        TrainingError: the source has no argument for the number of classes.
    """
    detector, known = detector_of(network.model), known_classes(network)
    if lost := lost_activations(network.model):
        network = replace(network, notes=(*network.notes, lost))
    widths = detector.classes(network.model), len(class_names)
    provenance = replace(network.provenance, class_names=class_names)
    if widths[0] == widths[1] and known in (None, class_names):
        return replace(network, model=set_provenance(network.model, provenance))
    arguments = _arguments(network, widths)
    before = dict(network.model.named_parameters())
    model = detector.with_classes(network.model, class_names, seed)
    fresh = {name.rpartition(".")[0] for name, own in model.named_parameters() if own is not before.get(name)}
    source = replace(provenance.source, args={**provenance.source.args, **arguments})
    set_provenance(model, replace(provenance, source=source))
    what = f"{widths[1]} classes in place of {widths[0]}" if widths[0] != widths[1] else "it is for other classes"
    note = f"the head {', '.join(sorted(fresh))} is new: {what}"
    return replace(network, model=model, notes=(*network.notes, note), fresh=tuple(sorted(fresh)))


def _arguments(network: LoadedNetwork, widths: tuple[int, int]) -> dict[str, int]:
    """Return the argument with which the source builds a detector for the new number of classes.

    Sources differ in whether they count the background. A network made in Python has no arguments.
    """
    if network.provenance.source.kind == "object" or widths[0] == widths[1]:
        return {}
    spec = trusted_spec(network, widths)
    name = source_argument(spec, widths)
    for value in (widths[1] + 1, widths[1]):
        built = _built(replace(spec, args={**spec.args, name: value}))
        if built is not None and detector_of(built).classes(built) == widths[1]:
            return {name: value}
    raise head_refusal(spec, widths)


def _built(spec: SourceSpec) -> nn.Module | None:
    try:
        with torch.random.fork_rng(devices=[]):
            return build_network(spec)
    except SurgeonError:
        return None
