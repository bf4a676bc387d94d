"""Networks of ultralytics: built from a YAML, or opened from a checkpoint, which is a pickle and so runs code."""

from __future__ import annotations

import ast
import contextlib
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_surgeon.errors import SourceError, WeightsError, nearest, option
from attn_surgeon.networks.constructor_calls import library_errors, unknown_argument
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.networks.source import Loaded, Source, SourceSpec
from attn_surgeon.optional_dependencies import require_extra
from attn_surgeon.user_code import one_line, quiet

if TYPE_CHECKING:
    from torch import nn

_PREFIX = "ultralytics/"
_MODELS = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "semantic": "SemanticSegmentationModel",
    "depth": "DepthModel",
    "classify": "ClassificationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
}
_SCALED = re.compile(r"(yolov?\d+)(.*)")  # yolo11-seg.yaml is the file of yolo11n-seg.yaml, yolo11s-seg.yaml, …
_ARGUMENTS = ("nc", "ch")


@contextlib.contextmanager
def _alone(where: str) -> Iterator[None]:
    """Keep ultralytics from the internet, from installing packages and from printing until the context ends."""
    require_extra("ultralytics", "ultralytics", what=where)
    offline = {} if "ultralytics.utils" in sys.modules else {"YOLO_OFFLINE": "true"}  # it asks when it is imported
    before = {name: os.environ.get(name) for name in offline}
    os.environ.update(offline)
    try:
        with quiet():
            from ultralytics.utils import checks
    finally:
        for name, value in before.items():
            _set_environment(name, value)
    installs, log = checks.AUTOINSTALL, logging.getLogger("ultralytics")
    level, checks.AUTOINSTALL = log.level, False
    log.setLevel(logging.ERROR)
    try:
        with quiet():
            yield
    finally:
        checks.AUTOINSTALL = installs
        log.setLevel(level)


def _set_environment(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


@cache
def _packaged() -> dict[str, Path]:
    """Return the YAML files in ultralytics' package by name, without importing it."""
    found = find_spec("ultralytics")
    folders = list(found.submodule_search_locations or ()) if found else []
    return {path.name: path for folder in folders for path in sorted(Path(folder, "cfg", "models").rglob("*.yaml"))}


@cache
def _yaml_names() -> list[str]:
    """Return the names of YAML files, with the scale after the version where there are scales."""
    scaled = [(name, _SCALED.fullmatch(name)) for name in _packaged()]
    names = [f"{match[1]}{scale}{match[2]}" for _, match in scaled if match for scale in "nsmlx"]
    return [_PREFIX + name for name in (*names, *(name for name, match in scaled if not match))]


def _read_yaml(name: str) -> dict[str, Any]:
    """Return a YAML, from a file or ultralytics' package; raise SourceError for one that is not there, or has code."""
    from ultralytics.nn.tasks import yaml_model_load

    unscaled = re.sub(r"(\d+)[nslmx](.+)?$", r"\1\2", name)
    if not Path(name).is_file() and not {name, unscaled} & _packaged().keys():
        close = nearest(_PREFIX + name, _yaml_names())
        raise SourceError("ultralytics has no such YAML, and there is no such file", _PREFIX + name, close)
    with library_errors(_PREFIX + name):
        yaml: dict[str, Any] = yaml_model_load(name)
    if not isinstance(yaml, dict) or not {"backbone", "head"} <= yaml.keys():
        raise SourceError("the YAML has no backbone and head", _PREFIX + name, "is it the YAML of a data set?")
    _require_layers(yaml, _PREFIX + name)
    if not _is_plain_activation(yaml.get("activation")):
        what = "its activation is code other than a layer of torch.nn, and was not run"
        raise SourceError(what, _PREFIX + name, "write activation: nn.SiLU()")
    return yaml


def _require_layers(yaml: Mapping[str, Any], where: str) -> None:
    """Raise SourceError where a layer is no module; ultralytics calls whatever function has the name."""
    from torch import nn
    from torchvision import ops
    from ultralytics.nn import tasks

    for number, layer in enumerate([*yaml["backbone"], *yaml["head"]]):
        if not isinstance(layer, list) or len(layer) != 4 or not isinstance(layer[2], str):
            raise SourceError(f"layer {number} is not [from, repeats, module, arguments]", where, f"it is {layer}"[:80])
        prefix, _, name = layer[2].rpartition(".")
        found = getattr({"": tasks, "nn": nn, "torchvision.ops": ops}.get(prefix), name, None)
        if not isinstance(found, type) or not issubclass(found, nn.Module):
            layers = [
                key for key, value in vars(tasks).items() if isinstance(value, type) and issubclass(value, nn.Module)
            ]
            raise SourceError(
                f"layer {number} is {layer[2]}, and ultralytics has no such layer", where, nearest(name, layers)
            )


def _is_plain_activation(text: object) -> bool:
    """Whether an activation is a call of a class of torch.nn; ultralytics evaluates whatever code is there."""
    if not text:
        return True
    try:
        call = ast.parse(str(text).strip(), mode="eval").body
        if not isinstance(call, ast.Call) or not re.fullmatch(r"(torch\.)?nn\.[A-Z]\w*", ast.unparse(call.func)):
            return False
        for argument in (*call.args, *(keyword.value for keyword in call.keywords)):
            ast.literal_eval(argument)
    except (SyntaxError, ValueError):
        return False
    return True


def _build(spec: SourceSpec) -> nn.Module:
    """Build the network of a YAML, with the same random weights each time."""
    from attn_surgeon.surgery.isolation import seeded

    for name in spec.args:
        if name not in _ARGUMENTS:
            raise unknown_argument(name, _ARGUMENTS, spec.text)
    with _alone(spec.text), seeded(0):
        from ultralytics.nn import tasks
        from ultralytics.utils import DEFAULT_CFG_DICT

        yaml = _read_yaml(spec.name)
        task = "detect" if _is_rtdetr(yaml) else tasks.guess_model_task(yaml)
        kind = "RTDETRDetectionModel" if _is_rtdetr(yaml) else _MODELS[task]
        with library_errors(spec.text):
            model: Any = getattr(tasks, kind)(yaml, verbose=False, **{"ch": yaml.get("channels", 3), **spec.args})
    model.task, model.args = task, {**DEFAULT_CFG_DICT, "task": task, "model": spec.name}
    return model  # type: ignore[no-any-return]


def _is_rtdetr(yaml: Mapping[str, Any]) -> bool:
    return str(yaml["head"][-1][2]).startswith("RTDETR")


def _load(spec: SourceSpec) -> Loaded:
    model: Any = _build(spec)
    notes = (f"a YAML has no weights: they are random; open trained ones as {_PREFIX}FILE.pt",)
    return Loaded(model, spec, _preprocessing(model), None, notes if spec.weights == "default" else ())


def _preprocessing(model: Any) -> Preprocessing:
    """Return what ultralytics feeds a network: values from 0 to 1, and the size that it was trained at."""
    size = model.args.get("imgsz") if getattr(model, "pt_path", None) else None
    side = size if isinstance(size, int) else 224 if model.task == "classify" else 640
    channels = model.yaml.get("channels", 3)
    return Preprocessing((0.0,) * channels, (1.0,) * channels, (side, side), channels)


def _open_checkpoint(spec: SourceSpec) -> nn.Module:
    """Unpickle a checkpoint, which runs code; ultralytics would download one that is not there."""
    _require_file(spec)
    with _alone(spec.text):
        from ultralytics.nn.tasks import load_checkpoint

        try:
            model: nn.Module = load_checkpoint(spec.name)[0]
        except Exception as error:  # whatever the code of a pickle raises
            what = f"the checkpoint cannot be opened: {one_line(error)}"
            raise WeightsError(what, spec.name, "is it one that ultralytics has saved, of this version?") from error
        return model.requires_grad_()


def _require_file(spec: SourceSpec) -> None:
    if spec.args:
        raise SourceError("a checkpoint takes no arguments", spec.text, f"leave out {option('arg')}")
    if not Path(spec.name).is_file():
        fetch = f"python -c \"from ultralytics import YOLO; YOLO('{Path(spec.name).name}')\" downloads it"
        what = "there is no such file, and it is not downloaded"
        raise WeightsError(what, spec.name, f"{fetch}; or begin untrained with {spec.text.removesuffix('.pt')}.yaml")


def _load_checkpoint(spec: SourceSpec) -> Loaded:
    model: Any = _open_checkpoint(spec)
    names = getattr(model, "names", None)
    return Loaded(model, spec, _preprocessing(model), tuple(names.values()) if isinstance(names, dict) else None)


def _parse(suffixes: tuple[str, ...], text: str) -> str | None:
    """Return the file's name behind the prefix where it has one of the suffixes."""
    if not text.lower().startswith(_PREFIX):
        return None
    name = text[len(_PREFIX) :]
    if not name.lower().endswith((".yaml", ".yml", ".pt")):
        hint = f"write {_PREFIX}{name or 'yolo11n'}.yaml, or {_PREFIX}FILE.pt for trained weights"
        raise SourceError("this names no network of ultralytics", text, hint)
    return name if name.lower().endswith(suffixes) else None


SOURCE = Source(
    kind="ultralytics",
    form="ultralytics/NAME.yaml",
    parse=lambda text: _parse((".yaml", ".yml"), text),
    build=_build,
    load=_load,
    prefix=_PREFIX,
    names=_yaml_names,
    classes_argument="nc",
    weights_hint=lambda spec: f"open a checkpoint of ultralytics as the network: {_PREFIX}FILE.pt",
)
TRAINED = Source(
    kind="ultralytics-pt",
    form="ultralytics/FILE.pt",
    parse=lambda text: _parse((".pt",), text),
    build=_open_checkpoint,
    load=_load_checkpoint,
    prefix=_PREFIX,
    user_code=True,
    pickled=True,
)
