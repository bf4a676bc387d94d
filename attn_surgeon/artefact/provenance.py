"""Where a network comes from, remembered on the network itself."""

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
    """A network's source, what it expects of its images, and the names of its classes."""

    source: SourceSpec
    preprocessing: Preprocessing | None = None
    class_names: tuple[str, ...] | None = None


def provenance_of(model: nn.Module) -> Provenance:
    """Return where a network comes from; one that was passed in Python has the source `object`."""
    known: Provenance | None = vars(model).get(_ATTRIBUTE)
    return known or Provenance(SourceSpec("object", type(model).__name__))


def set_provenance(model: AnyModule, provenance: Provenance) -> AnyModule:
    """Remember where a network comes from, on the network and its copies; return the network."""
    object.__setattr__(model, _ATTRIBUTE, provenance)
    return model
