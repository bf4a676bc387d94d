"""The provenance of a network: its source and preprocessing, stored on the network itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from torch import nn

from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing

_ATTRIBUTE = "_attn_surgeon_provenance"
AnyModule = TypeVar("AnyModule", bound=nn.Module)


@dataclass(frozen=True)
class Provenance:
    """A network's source, its image size and normalisation, and the names of its classes."""

    source: SourceSpec
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] | None = None


def provenance_of(model: nn.Module) -> Provenance:
    """Return a network's provenance; a network that was passed in Python has a source of kind `object`."""
    known: Provenance | None = vars(model).get(_ATTRIBUTE)
    return known or Provenance(SourceSpec("object", type(model).__name__))


def set_provenance(model: AnyModule, provenance: Provenance) -> AnyModule:
    """Store a network's provenance on the network, which copies keep; return the network."""
    object.__setattr__(model, _ATTRIBUTE, provenance)
    return model
