"""Open a network from a source or an artefact, with an example input to run it on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.load import load
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.artefact.provenance import Provenance, provenance_of, set_provenance
from attn_surgeon.artefact.trust import require_trusted_pickle, trusted_source
from attn_surgeon.errors import option
from attn_surgeon.networks import DEFAULT_PREPROCESSING, SourceSpec, load_source, parse_source
from attn_surgeon.networks.preprocessing import Preprocessing, PreprocessingOverrides
from attn_surgeon.surgery.allocation import require_runnable
from attn_surgeon.surgery.edit import take_out
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.running import parameter_device

_NORMALISATION_UNKNOWN = "the normalisation of the images is not known: ImageNet's mean and std are assumed"


@dataclass(frozen=True)
class LoadedNetwork:
    """A network in eval mode, with notes about how it was opened.

    Args:
        model: the network, with its provenance attached.
        notes: remarks for the user.
        trusted: the source that the user has named or trusts, whose code may run again.
        fresh: the layers that were given new weights for fine-tuning.
    """

    model: nn.Module
    notes: tuple[str, ...] = ()
    trusted: SourceSpec | None = None
    fresh: tuple[str, ...] = ()

    @property
    def provenance(self) -> Provenance:
        """The source, preprocessing and class names of the network."""
        return provenance_of(self.model)

    @property
    def preprocessing(self) -> Preprocessing:
        """The image size and normalisation of the network; ImageNet's where they are not known."""
        return self.provenance.preprocessing or DEFAULT_PREPROCESSING

    @property
    def example(self) -> Tensor:
        """One input (1, C, H, W) of seeded normal noise, on the network's device."""
        generator, device = torch.Generator().manual_seed(0), parameter_device(self.model)
        noise = torch.randn(1, self.preprocessing.channels, *self.preprocessing.size, generator=generator)
        return noise if device is None or device.type == "meta" else noise.to(device)

    @property
    def name(self) -> str:
        """A short name, used for the names of files."""
        return _short_name(self.provenance.source)

    def base(self) -> nn.Module:
        """Return a copy of the network without any grafts."""
        base = copied(self.model)
        if list_grafts(base):
            take_out(base, lambda graft: True)
        return base


def network_name(text: str) -> str:
    """Return the short name of a network named by its source, or of an artefact, of which only the metadata is read."""
    return _short_name(read_artefact(text).provenance.source if text.endswith(".safetensors") else parse_source(text))


def _short_name(source: SourceSpec) -> str:
    name = source.name
    return name.rpartition(":")[2] if ":" in name else name.partition(".")[0]


def open_network(
    text: str,
    *,
    weights: str | None = None,
    args: Mapping[str, object] | None = None,
    images: PreprocessingOverrides | None = None,
    source: str | None = None,
    allow_partial: bool = False,
    trust: bool = False,
) -> LoadedNetwork:
    """Open a network by its source, or an artefact by its path.

    Args:
        text: the source, such as `timm:resnet50`, or the path of an artefact.
        weights: `default`, `none` or a file of weights.
        args: arguments of the network's factory.
        images: image size and normalisation that replace the known ones.
        source: your own network that an artefact was made from.
        allow_partial: accept weights that do not cover the whole network.
        trust: run the code that an artefact or a checkpoint names.
    """
    if text.endswith(".safetensors"):
        loaded = _open_artefact(text, source, weights, trust)
    else:
        loaded = _open_source(text, weights, args, allow_partial, trust)
    preprocessing = (images or PreprocessingOverrides()).applied(loaded.preprocessing)
    shape = (1, preprocessing.channels, *preprocessing.size)
    require_runnable(loaded.model, shape, f"{text} on an image of its size", f"choose a smaller {option('size')}")
    set_provenance(loaded.model, replace(loaded.provenance, preprocessing=preprocessing))
    notes = (*_not_finite(loaded.model), *([_NORMALISATION_UNKNOWN] if preprocessing.assumed else ()))
    return replace(loaded, notes=(*loaded.notes, *notes))


def _not_finite(model: nn.Module) -> list[str]:
    """Return a note on the parameters and running statistics that hold NaN or infinity; masks may."""
    tensors = {**dict(model.named_parameters()), **{k: v for k, v in model.named_buffers() if "running_" in k}}
    names = [name for name, tensor in tensors.items() if not tensor.is_meta and not bool(tensor.isfinite().all())]
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return [f"the weights hold NaN or infinity: {names[0]}{more}"] if names else []


def _open_artefact(path: str, source: str | None, weights: str | None, trust: bool) -> LoadedNetwork:
    model = load(path, source=source, weights=weights, trust=trust)
    known = source is not None or trust
    trusted = trusted_source(provenance_of(model), source, Path(path), trust=trust) if known else None
    return LoadedNetwork(model, trusted=trusted)


def _open_source(
    text: str, weights: str | None, args: Mapping[str, object] | None, allow_partial: bool, trust: bool
) -> LoadedNetwork:
    spec = parse_source(text, args=args, weights=weights or "default")
    require_trusted_pickle(spec, trust=trust)
    built = load_source(spec, allow_partial=allow_partial)
    set_provenance(built.model, Provenance(built.spec, built.preprocessing, built.class_names))
    return LoadedNetwork(built.model, built.notes, built.spec)
