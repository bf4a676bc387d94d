"""Networks of timm, by name and tag."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from attn_surgeon.errors import SourceError, WeightsError, nearest
from attn_surgeon.networks.constructor_calls import check_reserved, library_errors
from attn_surgeon.networks.downloads import ALTERNATIVES, fetch_hub, fetch_url, no_weights
from attn_surgeon.networks.preprocessing import INTERPOLATIONS, Preprocessing
from attn_surgeon.networks.source import Loaded, Scalar, Source, SourceSpec, library_name
from attn_surgeon.user_code import one_line, quiet

if TYPE_CHECKING:
    from torch import nn

_RESERVED = ("pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
_SAFE = {
    "pytorch_model.bin": "model.safetensors",
    "open_clip_pytorch_model.bin": "open_clip_model.safetensors",
}


def has(name: str) -> bool:
    """Whether timm knows the architecture, whatever the tag."""
    import timm

    return bool(timm.is_model(name))


@cache
def timm_names() -> list[str]:
    """Return timm's architectures and, with their tags, its pretrained networks."""
    import timm

    return sorted({*timm.list_models(), *timm.list_models(pretrained=True)})


def _canonical(name: str) -> str:
    """Return a name with timm's default tag, so that later versions of timm load the same weights."""
    config = _config(name)
    if config is None:  # a deprecated name, which timm replaces only when it builds the network
        with warnings.catch_warnings(action="ignore"):
            built = getattr(_create(name, {}), "pretrained_cfg", {})
        name, tag = built.get("architecture") or name, built.get("tag")
    else:
        tag = config.tag
    return f"{name}.{tag}" if tag and "." not in name else name


def _create(name: str, args: Mapping[str, Scalar]) -> nn.Module:
    """Build the architecture without pretrained weights."""
    import timm

    where = f"timm/{name}"
    _config(name)
    check_reserved(args, _RESERVED, where)
    with quiet(), library_errors(where):
        return cast("nn.Module", timm.create_model(name, pretrained=False, **args))


def _create_pretrained(name: str, args: Mapping[str, Scalar]) -> nn.Module:
    """Build the network with the weights that its tag names."""
    where = f"timm/{name}"
    check_reserved(args, _RESERVED, where)
    path = _fetch(_config(name), where)
    with quiet(), library_errors(where):
        model = _create_from(path, name, args)
    getattr(model, "pretrained_cfg", {}).pop("file", None)
    return model


def _preprocessing(model: nn.Module, args: Mapping[str, Scalar]) -> Preprocessing:
    """Return the preprocessing of the network's images from timm's configuration."""
    from timm.data import resolve_model_data_config

    config: dict[str, Any] = resolve_model_data_config(model)
    given, size = args.get("in_chans"), args.get("img_size", config["input_size"][-2:])
    channels = given if isinstance(given, int) else int(config["input_size"][0])
    interpolation = config["interpolation"]
    return Preprocessing(
        mean=_per_channel(config["mean"], channels),
        std=_per_channel(config["std"], channels),
        size=(size, size) if isinstance(size, int) else cast("tuple[int, int]", tuple(size)),
        channels=channels,
        interpolation=interpolation if interpolation in INTERPOLATIONS else "bilinear",
        crop_pct=min(float(config["crop_pct"]), 1.0),
    )


def _create_from(path: Path, name: str, args: Mapping[str, Scalar]) -> nn.Module:
    """Build the network and load the file that holds its weights."""
    import timm

    # with the file named, timm needs no internet access
    overlay = {"file": str(path), "custom_load": path.suffix == ".npz"}
    try:
        model = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay, **args)
    except TypeError:
        raise  # an argument that the architecture does not take
    except Exception as error:
        raise WeightsError(f"the cached weights do not load: {one_line(error)}", str(path), ALTERNATIVES) from error
    return cast("nn.Module", model)


def _config(name: str) -> Any:
    """Return the pretrained configuration of a name, or None where timm has none."""
    from timm.models import get_pretrained_cfg

    where = f"timm/{name}"
    if any(mark in name for mark in ":/\\") or not has(name):
        hint = nearest(name, timm_names()) or "see timm.list_models()"
        raise SourceError(f"timm has no network {name!r}", where, hint)
    try:
        return get_pretrained_cfg(name)
    except RuntimeError as error:
        arch, _, tag = name.partition(".")
        raise SourceError(f"{arch} has no weights tagged {tag!r}", where, _tags(name, arch)) from error


def _tags(name: str, arch: str) -> str:
    """Return a hint with tags under which an architecture has weights."""
    import timm

    tagged = timm.list_models(f"{arch}.*", pretrained=True)
    return nearest(name, tagged) or (f"known: {', '.join(tagged[:5])}" if tagged else f"write timm/{arch}")


def _fetch(config: Any, where: str) -> Path:
    """Return the local file of the configuration's weights."""
    if config is None or not (config.hf_hub_id or config.url):
        raise no_weights(where)
    if config.hf_hub_id:
        repo, _, revision = config.hf_hub_id.partition("@")
        plain = config.hf_hub_filename or "pytorch_model.bin"
        safe = _SAFE.get(plain, plain.removesuffix(".bin") + ".safetensors" if plain.endswith(".bin") else plain)
        return fetch_hub(repo, revision or None, list(dict.fromkeys((safe, plain))), where)
    url, filename = (config.url, "") if isinstance(config.url, str) else config.url
    return fetch_url(url, where, filename, check_hash=False)


def _per_channel(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return a value for each channel: their mean for all, if the number of channels differs."""
    if len(values) == channels:
        return tuple(float(value) for value in values)
    return (sum(values) / len(values),) * channels


def _parse(text: str) -> str | None:
    return library_name(text, ("timm",), has)


def _load(spec: SourceSpec) -> Loaded:
    spec = replace(spec, name=_canonical(spec.name))
    create = _create_pretrained if spec.weights == "default" else _create
    model = create(spec.name, spec.args)
    return Loaded(model, spec, _preprocessing(model, spec.args))


SOURCE = Source(
    kind="timm",
    form="timm/NAME",
    prefix="timm/",
    parse=_parse,
    build=lambda spec: _create(spec.name, spec.args),
    load=_load,
    has=has,
    names=timm_names,
    weights_hint=lambda spec: "timm's weights are chosen by a tag in the name",
)
