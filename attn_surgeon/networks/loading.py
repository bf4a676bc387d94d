"""Build the network that a source describes, and load its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from attn_surgeon.errors import WeightsError
from attn_surgeon.networks.source import Loaded, Source, SourceSpec, get_source, sources

if TYPE_CHECKING:
    from torch import nn


def load_source(spec: SourceSpec, *, allow_partial: bool = False, weights: str | None = None) -> Loaded:
    """Build the network of a source and load its weights, or others in their place."""
    from attn_surgeon.networks.weights import load_weights

    spec = replace(spec, weights=weights or spec.weights)
    source = get_source(spec.kind)
    from_file, notes = _weights_are_a_file(source, spec), _library_notes(spec)
    loaded = source.load(spec)
    if from_file:
        notes += load_weights(loaded.model, spec.weights, allow_partial=allow_partial)
    loaded.model.eval()
    return replace(loaded, notes=tuple(notes))


def build_network(spec: SourceSpec) -> nn.Module:
    """Build the architecture of a source, in eval mode, without weights and without the network."""
    return get_source(spec.kind).build(spec).eval()


def _weights_are_a_file(source: Source, spec: SourceSpec) -> bool:
    """Whether the weights are in a file; raise WeightsError where they are nothing that is known."""
    if spec.weights in ("default", "none") or source.has_weights(spec):
        return False
    if not Path(spec.weights).exists():
        hints = [source.weights_hint(spec), *_sources_of_weights(spec)]
        raise WeightsError("there is no such weights file", spec.weights, "; ".join(hints))
    return True


def _sources_of_weights(spec: SourceSpec) -> list[str]:
    """Return hints to other sources that have weights of that name for a network of that name."""
    name = spec.name.partition(".")[0]
    others = [source for source in sources() if source.kind != spec.kind and source.has(name)]
    named = [replace(spec, kind=source.kind, name=name) for source in others]
    return [
        f"{each.kind} has such weights: name the network {each.text}"
        for each in named
        if get_source(each.kind).has_weights(each)
    ]


def _library_notes(spec: SourceSpec) -> list[str]:
    """Return a note on the library that a bare name was taken from."""
    if not spec.bare:
        return []
    others = [source for source in sources() if source.kind != spec.kind and source.has(spec.name)]
    also = "".join(f" ({source.kind} has one too: {source.prefix}{spec.name})" for source in others)
    return [f"{spec.name} is {spec.kind}'s{also}"]
