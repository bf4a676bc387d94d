"""What an operation starts from: a network out of a source or an artefact, with an example to run it on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.file import Provenance, load, provenance_of, set_provenance
from attn_surgeon.networks import ASSUMED, SourceSpec, load_source, parse_source
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.surgery.installed import list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.perform import take_out

_ASSUMED = "nobody said how images are normalised: taken are ImageNet's mean and std"


@dataclass(frozen=True)
class Images:
    """What the user said of the images; None where the source is to say it."""

    mean: Sequence[float] | None = None
    std: Sequence[float] | None = None
    size: tuple[int, int] | None = None

    def applied(self, preprocessing: Preprocessing) -> Preprocessing:
        """Give the preprocessing with what the user said in place of what the source says."""
        said = {"mean": self.mean, "std": self.std, "size": self.size}
        given = {name: tuple(value) for name, value in said.items() if value is not None}
        if given.get("size", preprocessing.size) != preprocessing.size:
            given["crop_pct"] = 1.0  # type: ignore[assignment]
        if "mean" in given:
            given["channels"] = len(given["mean"])  # type: ignore[assignment]
        if "mean" in given and "std" in given:
            given["assumed"] = False  # type: ignore[assignment]
        return replace(preprocessing, **given)  # type: ignore[arg-type]


@dataclass(frozen=True)
class LoadedNetwork:
    """A network in eval mode, where it comes from, and what there is to say about that.

    `trusted` is the source by the user's own word, whose code may run again; what a file says is no such word.
    `fresh` names the layers that a fine-tune has given new weights.
    """

    model: nn.Module
    provenance: Provenance
    notes: tuple[str, ...] = ()
    trusted: SourceSpec | None = None
    fresh: tuple[str, ...] = ()

    @property
    def preprocessing(self) -> Preprocessing:
        """Give what the network expects of its images."""
        known = self.provenance.preprocessing
        return known or ASSUMED

    @cached_property
    def example(self) -> Tensor:
        """Make one seeded input (1, C, H, W)."""
        generator = torch.Generator().manual_seed(0)
        return torch.randn(1, self.preprocessing.channels, *self.preprocessing.size, generator=generator)

    @property
    def name(self) -> str:
        """Give a short name for files made from this network."""
        text = self.provenance.source.name
        return text.rpartition(":")[2] if ":" in text else text.partition(".")[0]

    def base(self) -> nn.Module:
        """Give the network without any grafts, as a copy."""
        base = copied(self.model)
        if list_grafts(base):
            take_out(base, lambda graft: True)
        return base


def open_network(
    text: str,
    *,
    weights: str | None = None,
    args: Mapping[str, object] | None = None,
    images: Images | None = None,
    source: str | None = None,
    allow_partial: bool = False,
) -> LoadedNetwork:
    """Open a network by source, or an artefact by path; `source` is the user's own network behind an artefact."""
    if text.endswith(".safetensors"):
        loaded = _open_artefact(text, source, weights)
    else:
        loaded = _open_source(text, weights, args, allow_partial)
    said = images or Images()
    preprocessing = said.applied(loaded.preprocessing)
    provenance = replace(loaded.provenance, preprocessing=preprocessing)
    set_provenance(loaded.model, provenance)
    notes = (*loaded.notes, _ASSUMED) if preprocessing.assumed else loaded.notes
    return replace(loaded, provenance=provenance, notes=notes)


def _open_artefact(path: str, source: str | None, weights: str | None) -> LoadedNetwork:
    model = load(path, source=source, weights=weights)
    provenance = provenance_of(model)
    spec = provenance.source
    trusted = None if source is None else replace(parse_source(source), args=spec.args, weights=spec.weights)
    return LoadedNetwork(model, provenance, trusted=trusted)


def _open_source(
    text: str, weights: str | None, args: Mapping[str, object] | None, allow_partial: bool
) -> LoadedNetwork:
    loaded = load_source(parse_source(text, args=args, weights=weights or "default"), allow_partial=allow_partial)
    provenance = Provenance(loaded.spec, loaded.preprocessing, loaded.class_names)
    return LoadedNetwork(loaded.model, provenance, loaded.notes, loaded.spec)
