"""Networks of torchvision, by name, with the weights of their enums."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from attn_surgeon.errors import SourceError, WeightsError, nearest
from attn_surgeon.networks.constructor_calls import check_arguments, check_reserved, library_errors
from attn_surgeon.networks.downloads import ALTERNATIVES, fetch_url, no_weights
from attn_surgeon.networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from attn_surgeon.networks.source import Loaded, Scalar, Source, SourceSpec, library_name
from attn_surgeon.user_code import one_line, quiet

if TYPE_CHECKING:
    from torch import nn

_RESERVED = ("weights", "weights_backbone", "pretrained", "pretrained_backbone", "progress")
# arguments with which the pretrained networks are built; the library's defaults differ, and warn
_INCEPTIONS: dict[str, dict[str, bool]] = {
    "googlenet": {"transform_input": True, "aux_logits": False},
    "inception_v3": {"transform_input": True},
}


def _has(name: str) -> bool:
    """Whether torchvision knows the name."""
    from torchvision.models import list_models

    return name in list_models()


def _names() -> list[str]:
    """Return torchvision's networks, without a prefix."""
    from torchvision.models import list_models

    return list(list_models())


def _weights_named(name: str, text: str) -> Any:
    """Return the member of the weights enum that the text names, or None for none and for a file."""
    from torchvision.models import get_model_weights

    enum = get_model_weights(_builder(name))
    if text != "default":
        return enum.__members__.get(text.rpartition(".")[2] if text.startswith(enum.__name__) else text)
    if not len(enum):
        raise no_weights(f"tv/{name}")
    # the quantizable networks are built in floating point, so their weights must be too
    return enum.DEFAULT.meta.get("unquantized", enum.DEFAULT)


def _weights_hint(name: str, text: str) -> str:
    """Return a hint to the network's weights with similar names."""
    from torchvision.models import get_model_weights

    known = list(get_model_weights(_builder(name)).__members__)
    return nearest(text, known) or f"known: {', '.join([*known, 'default', 'none'])}, or a file"


def _create(name: str, args: Mapping[str, Scalar], member: Any, *, initialise: bool = False) -> nn.Module:
    """Build the architecture as it is built for these weights, without loading them."""
    if member is None:
        return _call(name, {**_untrained(name), **args}, None, initialise=initialise)
    with _without_tensors(member, args.get("num_classes")):
        return _call(name, args, member)


def _create_pretrained(name: str, args: Mapping[str, Scalar], member: Any) -> nn.Module:
    """Build the network with weights of its enum."""
    path = fetch_url(member.url, f"tv/{name}")
    with _load_errors(str(path)):
        return _call(name, args, member)


def _preprocessing(name: str, args: Mapping[str, Scalar], member: Any) -> Preprocessing:
    """Return the preprocessing of the weights from their transforms; without weights, ImageNet's."""
    preset = member.transforms() if member is not None else None
    size = args.get("image_size", 299 if name.endswith("inception_v3") else 224)
    shape = (size, size) if isinstance(size, int) else (224, 224)
    if _builder(name).__module__.startswith("torchvision.models.detection"):  # these networks normalise inside
        return Preprocessing((0.0,) * 3, (1.0,) * 3, shape)
    if preset is None:
        return Preprocessing(IMAGENET_MEAN, IMAGENET_STD, shape, crop_pct=0.875)
    resize = _pair(getattr(preset, "resize_size", None)) or shape
    crop = _pair(getattr(preset, "crop_size", None)) or resize
    mode = getattr(getattr(preset, "interpolation", None), "value", "bilinear")
    crop_pct = min(crop[0] / resize[0], crop[1] / resize[1], 1.0)
    return Preprocessing(tuple(preset.mean), tuple(preset.std), crop, interpolation=mode, crop_pct=crop_pct)


def _class_names(member: Any) -> tuple[str, ...] | None:
    """Return the categories of the loaded weights."""
    categories = member.meta.get("categories") if member is not None else None
    return tuple(categories) if categories else None


def _builder(name: str) -> Callable[..., Any]:
    """Return the function that builds a network."""
    from torchvision.models import get_model_builder

    if not _has(name):
        hint = nearest(name, _names()) or "see torchvision.models.list_models()"
        raise SourceError(f"torchvision has no network {name!r}", f"tv/{name}", hint)
    return cast("Callable[..., Any]", get_model_builder(name))


def _call(name: str, args: Mapping[str, Any], member: Any, *, initialise: bool = False) -> nn.Module:
    """Call the builder with a value for every weights parameter, since some default to a download."""
    builder, where = _builder(name), f"tv/{name}"
    check_reserved(args, _RESERVED, where)
    check_arguments(builder, args, where)
    silent: dict[str, Any] = {key: None for key in inspect.signature(builder).parameters if key.startswith("weights")}
    if _untrained(name):
        silent["init_weights"] = initialise  # without it, these networks warn
    with quiet(), library_errors(where):
        return cast("nn.Module", builder(**{**silent, "weights": member, **args}))


def _untrained(name: str) -> dict[str, bool]:
    """Return the arguments that make an untrained network like its pretrained one."""
    return _INCEPTIONS.get(name.removeprefix("quantized_"), {})


class _NoTensors(dict[str, Any]):
    """A placeholder for a state dict, which `load_state_dict` ignores."""


@contextlib.contextmanager
def _without_tensors(member: Any, classes: Scalar) -> Iterator[None]:
    """Skip download and loading of weights while a builder runs, and accept any number of `classes`."""
    from torch import nn

    original = nn.Module.load_state_dict

    def load(self: nn.Module, state_dict: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        return None if isinstance(state_dict, _NoTensors) else original(self, state_dict, *args, **kwargs)

    # builders choose more than tensors by their weights: frozen norms, sizes, auxiliary heads
    categories = member.meta.get("categories")
    if categories is not None and isinstance(classes, int):
        member.meta["categories"] = [""] * classes  # builders raise for another number than the weights have
    member.get_state_dict = lambda *_, **__: _NoTensors()
    nn.Module.load_state_dict = load  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.load_state_dict = original  # type: ignore[method-assign]
        del member.get_state_dict
        if categories is not None:
            member.meta["categories"] = categories


@contextlib.contextmanager
def _load_errors(path: str) -> Iterator[None]:
    """Raise WeightsError with the file's path if loading fails; errors about arguments are raised unchanged."""
    try:
        yield
    except SourceError as error:
        cause = error.__cause__
        if cause is None or isinstance(cause, (TypeError, ValueError)):
            raise
        raise WeightsError(f"the cached weights do not load: {one_line(cause)}", path, ALTERNATIVES) from cause


def _pair(size: Any) -> tuple[int, int] | None:
    """Return torchvision's sizes (one number, a list of one or two) as height and width."""
    if size is None:
        return None
    sizes = [size] if isinstance(size, int) else list(size)
    return int(sizes[0]), int(sizes[-1])


def _parse(text: str) -> str | None:
    return library_name(text, ("tv", "torchvision"), _has)


def _build(spec: SourceSpec) -> nn.Module:
    """Build the architecture as it is built for its weights."""
    return _create(spec.name, spec.args, _weights_named(spec.name, spec.weights))


def _load(spec: SourceSpec) -> Loaded:
    member = _weights_named(spec.name, spec.weights)
    if member is None:
        model = _create(spec.name, spec.args, None, initialise=spec.weights == "none")
    else:
        model = _create_pretrained(spec.name, spec.args, member)
    return Loaded(model, spec, _preprocessing(spec.name, spec.args, member), _class_names(member))


SOURCE = Source(
    kind="torchvision",
    form="tv/NAME",
    prefix="tv/",
    parse=_parse,
    build=_build,
    load=_load,
    has=_has,
    names=lambda: [f"tv/{name}" for name in _names()],
    has_weights=lambda spec: _weights_named(spec.name, spec.weights) is not None,
    weights_hint=lambda spec: _weights_hint(spec.name, spec.weights),
)
