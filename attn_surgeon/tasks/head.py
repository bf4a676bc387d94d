"""Replace the head of a network for the classes of the data, such that an artefact can rebuild the network."""

from __future__ import annotations

import inspect
from dataclasses import replace

import torch
from torch import nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.artefact.tensors import split_tensors
from attn_surgeon.errors import SourceError, TrainingError
from attn_surgeon.networks import SourceSpec, build_network
from attn_surgeon.networks.source import get_source
from attn_surgeon.surgery.rewrite.operated_modules import grafts_in
from attn_surgeon.user_code import found

# Names of a factory's argument for the number of classes.
_NAMES = ("num_classes", "classes", "n_classes", "out_channels")


def replace_head(network: LoadedNetwork, class_names: tuple[str, ...], width: int, seed: int) -> LoadedNetwork:
    """Return a network for these classes, with its head replaced where the number of outputs differs.

    The new head is the one that the network's source builds for that number of classes, so an artefact stores only that
    argument.

    Args:
        network: the network, whose head is replaced in place.
        class_names: the classes of the data.
        width: the number of outputs of the current head.
        seed: the seed of the new head's weights.

    Raises:
        TrainingError: the source has no argument for the number of classes, or it changes more than the head.
    """
    provenance, notes = replace(network.provenance, class_names=class_names), network.notes
    heads: list[str] = []
    if width != len(class_names):
        widths = (width, len(class_names))
        spec = trusted_spec(network, widths)
        arguments = {source_argument(spec, widths): len(class_names)}
        heads = _replace(network.model, replace(spec, args={**spec.args, **arguments}), widths, seed)
        provenance = replace(
            provenance, source=replace(provenance.source, args={**provenance.source.args, **arguments})
        )
        notes += (f"the head {', '.join(heads)} is new: {len(class_names)} outputs in place of {width}",)
    set_provenance(network.model, provenance)
    return replace(network, notes=notes, fresh=tuple(heads))


def redraw_head(network: LoadedNetwork, seed: int) -> None:
    """Initialise the new head of a network again with another seed, in place; nothing for a head that is not new."""
    if not network.fresh:
        return
    spec = network.provenance.source
    if network.trusted is not None and get_source(spec.kind).user_code:
        spec = replace(network.trusted, args=spec.args)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        initialised = build_network(spec)
    for name in network.fresh:
        network.model.get_submodule(name).load_state_dict(initialised.get_submodule(name).state_dict())


def trusted_spec(network: LoadedNetwork, widths: tuple[int, int]) -> SourceSpec:
    """Return the source to build again; raise TrainingError for user code that was not trusted."""
    spec = network.provenance.source
    if not get_source(spec.kind).user_code:
        return spec
    if network.trusted is None:
        raise head_refusal(spec, widths)
    return network.trusted


def source_argument(spec: SourceSpec, widths: tuple[int, int]) -> str:
    """Return the name of the source's argument for the number of classes."""
    if not get_source(spec.kind).user_code:
        return get_source(spec.kind).classes_argument
    with found(spec.name, SourceError) as factory:
        parameters = [] if isinstance(factory, nn.Module) else list(inspect.signature(factory).parameters)
    name = next((name for name in _NAMES if name in parameters), None)
    if name is None:
        raise head_refusal(spec, widths)
    return name


def _replace(model: nn.Module, spec: SourceSpec, widths: tuple[int, int], seed: int) -> list[str]:
    """Replace the layers that have another shape in a network built for the new classes; return their names."""
    fresh = _built(spec, widths, seed)
    old, new = split_tensors(model)[0], split_tensors(fresh)[0]
    if old.keys() != new.keys():
        raise head_refusal(spec, widths)
    differ = {name for name in old if old[name].shape != new[name].shape}
    heads = sorted({name.rpartition(".")[0] for name in differ})
    resized = all((old[name].shape[0], new[name].shape[0]) == widths for name in differ)
    if not heads or not resized or any(grafts_in(model.get_submodule(head)) for head in heads):
        raise head_refusal(spec, widths)
    for head in heads:
        weight = model.get_submodule(head).weight
        model.set_submodule(head, fresh.get_submodule(head).to(device=weight.device, dtype=weight.dtype))  # type: ignore[arg-type]
    if hasattr(model, "num_classes"):
        model.num_classes = widths[1]  # type: ignore[assignment]
    return heads


def _built(spec: SourceSpec, widths: tuple[int, int], seed: int) -> nn.Module:
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return build_network(spec)
    except SourceError as error:
        raise head_refusal(spec, widths) from error


def head_refusal(spec: SourceSpec, widths: tuple[int, int]) -> TrainingError:
    what = f"the head has {widths[0]} outputs, the data {widths[1]} classes, and the head cannot be replaced"
    hint = f"add one of the arguments {', '.join(_NAMES)} to its factory, or change the head there and insert again"
    return TrainingError(what, spec.text, hint)
