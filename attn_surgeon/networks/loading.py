"""Build the network that a source describes, and load its weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from torch import nn

from attn_surgeon.errors import SourceError, WeightsError
from attn_surgeon.networks import factories, from_timm, from_torchvision
from attn_surgeon.networks.calls import check_arguments
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.networks.source import SourceSpec
from attn_surgeon.networks.weights import load_weights

# what images are taken to be where nobody says
DEFAULT_PREPROCESSING = Preprocessing(
    from_torchvision.IMAGENET_MEAN, from_torchvision.IMAGENET_STD, (224, 224), assumed=True
)


@dataclass(frozen=True)
class Loaded:
    """Hold a network in eval mode with all that is known about it."""

    model: nn.Module
    spec: SourceSpec
    preprocessing: Preprocessing
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()


def load_source(spec: SourceSpec, *, allow_partial: bool = False, weights: str | None = None) -> Loaded:
    """Build the network of a source and load its weights, or others in their place."""
    spec = replace(spec, weights=weights or spec.weights)
    notes, from_file = _notes(spec), _from_file(spec)
    loaded = _LOADERS[spec.kind](spec)
    if from_file:
        notes += load_weights(loaded.model, spec.weights, allow_partial=allow_partial)
    loaded.model.eval()
    return replace(loaded, notes=tuple(notes))


def build(spec: SourceSpec) -> nn.Module:
    """Build the architecture of a source, in eval mode, without weights and without the network."""
    return _BUILDERS[spec.kind](spec).eval()


@cache
def _names() -> tuple[str, ...]:
    """List the names once."""
    return (*from_timm.names(), *(f"tv/{name}" for name in from_torchvision.names()), "demo")


def model_names() -> list[str]:
    """List the networks that can be named: timm's, torchvision's as tv/NAME, and demo."""
    return list(_names())


def _from_file(spec: SourceSpec) -> bool:
    """Tell whether the weights are to be read from a file."""
    if spec.weights in ("default", "none"):
        return False
    named = spec.kind == "torchvision" and from_torchvision.weights_named(spec.name, spec.weights) is not None
    if not named and not Path(spec.weights).exists():
        raise WeightsError("there is no such weights file", spec.weights, _weights_hint(spec))
    return not named


def _weights_hint(spec: SourceSpec) -> str:
    """Suggest what could have been meant by weights that are no file."""
    if spec.kind == "torchvision":
        return from_torchvision.weights_hint(spec.name, spec.weights)
    return "timm's weights are chosen by a tag in the name" if spec.kind == "timm" else "check the path"


def _notes(spec: SourceSpec) -> list[str]:
    """Say which library a bare name was taken from."""
    if not spec.bare:
        return []
    if spec.kind == "torchvision":
        return [f"{spec.name} is torchvision's (timm has none of that name)"]
    also = f" (torchvision has one too: tv/{spec.name})" if from_torchvision.has(spec.name) else ""
    return [f"{spec.name} is timm's{also}"]


def _load_timm(spec: SourceSpec) -> Loaded:
    """Load a network of timm."""
    spec = replace(spec, name=from_timm.canonical(spec.name))
    create = from_timm.create_pretrained if spec.weights == "default" else from_timm.create
    model = create(spec.name, spec.args)
    return Loaded(model, spec, from_timm.preprocessing(model, spec.args))


def _load_torchvision(spec: SourceSpec) -> Loaded:
    """Load a network of torchvision."""
    member = from_torchvision.weights_named(spec.name, spec.weights)
    if member is None:
        initialise = spec.weights == "none"
        model = from_torchvision.create(spec.name, spec.args, None, initialise=initialise)
    else:
        model = from_torchvision.create_pretrained(spec.name, spec.args, member)
    settings = from_torchvision.preprocessing(spec.name, spec.args, member)
    return Loaded(model, spec, settings, from_torchvision.class_names(member))


def _load_own(spec: SourceSpec) -> Loaded:
    """Load a network of the user's."""
    return Loaded(_BUILDERS[spec.kind](spec), spec, DEFAULT_PREPROCESSING)


def _load_demo(spec: SourceSpec) -> Loaded:
    """Load the demo network."""
    from attn_surgeon.networks.demo import CLASS_NAMES, DEMO_PREPROCESSING, load_demo

    default = spec.weights == "default"
    if default and spec.args:
        raise WeightsError("the demo's weights fit no other arguments than its own", "demo", "use --weights none")
    model = load_demo() if default else _build_demo(spec)
    return Loaded(model, spec, DEMO_PREPROCESSING, CLASS_NAMES if default else None)


def _build_demo(spec: SourceSpec) -> nn.Module:
    """Build the demo network without weights."""
    from attn_surgeon.networks.demo import demo

    check_arguments(demo, spec.args, "demo")
    factory: Callable[..., nn.Module] = demo
    return factory(**spec.args)


def _build_torchvision(spec: SourceSpec) -> nn.Module:
    """Build a network of torchvision the way it is built for its weights."""
    member = from_torchvision.weights_named(spec.name, spec.weights)
    return from_torchvision.create(spec.name, spec.args, member)


def _refuse(spec: SourceSpec) -> Any:
    """Say that a network handed over in Python has no recipe to build it by."""
    raise SourceError("this network was handed over in Python, so only Python has it", spec.name, "pass it again")


_BUILDERS: dict[str, Callable[[SourceSpec], nn.Module]] = {
    "timm": lambda spec: from_timm.create(spec.name, spec.args),
    "torchvision": _build_torchvision,
    "file": lambda spec: factories.from_factory(spec.name, spec.args),
    "module": lambda spec: factories.from_factory(spec.name, spec.args),
    "demo": _build_demo,
    "object": _refuse,
}
_LOADERS: dict[str, Callable[[SourceSpec], Loaded]] = {
    "timm": _load_timm,
    "torchvision": _load_torchvision,
    "file": _load_own,
    "module": _load_own,
    "demo": _load_demo,
    "object": _refuse,
}
