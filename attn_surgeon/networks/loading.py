"""Build the network that a source describes, and load its weights."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from attn_surgeon.errors import MemoryLimitError, SourceError, WeightsError, excerpt, option
from attn_surgeon.networks.source import Loaded, Source, SourceSpec, get_source, sources

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")
_LARGEST_ARGUMENT = 100_000


def load_source(spec: SourceSpec, *, allow_partial: bool = False, weights: str | None = None) -> Loaded:
    """Build the network of a source and load its weights.

    Args:
        spec: the source.
        allow_partial: load the weights that fit, if not all do.
        weights: other weights than those of the spec.
    """
    from attn_surgeon.networks.weights import load_weights

    spec = replace(spec, weights=weights or spec.weights)
    source = get_source(spec.kind)
    from_file, notes = _weights_are_a_file(source, spec), _library_notes(spec)
    loaded = _within_memory(source, spec, source.load)
    if from_file:
        notes += load_weights(loaded.model, spec.weights, allow_partial=allow_partial)
    loaded.model.eval()
    return replace(loaded, notes=(*loaded.notes, *notes))


def build_network(spec: SourceSpec) -> nn.Module:
    """Build the architecture of a source, in eval mode, without weights and without internet access."""
    source = get_source(spec.kind)
    return _within_memory(source, spec, source.build).eval()


def _within_memory(source: Source, spec: SourceSpec, make: Callable[[SourceSpec], T]) -> T:
    """Build a source's network; raise an error if its arguments need more memory than the machine has.

    The network of a library is first built on the meta device, because building it could exhaust the memory.
    """
    from torch import device, random

    from attn_surgeon.surgery.allocation import within_memory

    hint = f"check its {option('arg')}"
    if spec.args and not source.user_code:
        _require_moderate_arguments(spec)
        try:
            with device("meta"), random.fork_rng(devices=[]), within_memory(spec.text, hint):
                source.build(spec)
        except MemoryLimitError:
            raise
        except Exception:  # if it is not due to the device, it is raised again below
            pass
    with within_memory(spec.text, hint, math.inf):
        return make(spec)


def _require_moderate_arguments(spec: SourceSpec) -> None:
    """Raise SourceError for arguments so large that a library would loop for hours."""
    for name, value in spec.args.items():
        values = value if isinstance(value, (tuple, list)) else (value,)
        if any(isinstance(number, (int, float)) and not abs(number) <= _LARGEST_ARGUMENT for number in values):
            what = f"the argument {name}={excerpt(value)} is out of range"
            raise SourceError(what, spec.text, f"numbers are at most {_LARGEST_ARGUMENT:,}")


def _weights_are_a_file(source: Source, spec: SourceSpec) -> bool:
    """Whether the weights are in a file; raise WeightsError if they are neither a file nor a known name."""
    if spec.weights in ("default", "none") or source.has_weights(spec):
        return False
    if not Path(spec.weights).exists():
        hints = [source.weights_hint(spec), *_sources_of_weights(spec)]
        raise WeightsError("there is no such weights file", spec.weights, "; ".join(hints))
    return True


def _sources_of_weights(spec: SourceSpec) -> list[str]:
    """Return hints to other sources that have these weights for a network of this name."""
    name = spec.name.partition(".")[0]
    others = [source for source in sources() if source.kind != spec.kind and source.has(name)]
    named = [replace(spec, kind=source.kind, name=name) for source in others]
    return [
        f"{each.kind} has such weights: name the network {each.text}"
        for each in named
        if get_source(each.kind).has_weights(each)
    ]


def _library_notes(spec: SourceSpec) -> list[str]:
    """Return a note on the library that a name without prefix was taken from."""
    if not spec.bare:
        return []
    others = [source for source in sources() if source.kind != spec.kind and source.has(spec.name)]
    also = "".join(f" ({source.kind} has one too: {source.prefix}{spec.name})" for source in others)
    return [f"{spec.name} is {spec.kind}'s{also}"]
