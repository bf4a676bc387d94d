"""What a program calls to export a network that it has at hand; the command line starts from a name or a file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypedDict, Unpack

from torch import Tensor, nn

from attn_surgeon.artefact import provenance_of
from attn_surgeon.errors import ExportError, nearest
from attn_surgeon.export.axes import read_axes
from attn_surgeon.export.images import require_images
from attn_surgeon.export.job import DEFAULT_OPSET, Job, Settings, prepare
from attn_surgeon.export.onnx_file import TOLERANCES, Wanted, Written, write_onnx
from attn_surgeon.export.story import PREFIX, tell_story
from attn_surgeon.export.to_onnx import require_opset
from attn_surgeon.export.torch_program import WrittenProgram, write_program
from attn_surgeon.preprocessing import Preprocessing
from attn_surgeon.subject import Images, Subject

_IMAGE_AXES = 4


class Options(TypedDict, total=False):
    """How a network is exported, as on the command line; `images` is a folder to compare on, seeded ones otherwise.

    `mean` and `std` are the network's own, by default those of its artefact; where nothing is known of them, the
    images that are compared go from 0 to 1.
    """

    dynamic: str
    keep_identity: bool
    preprocess: bool
    softmax: bool
    images: str | Path | None
    tolerance: float | None
    mean: Sequence[float] | None
    std: Sequence[float] | None


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    example: Tensor,
    precision: str = "fp32",
    calibrate: str | Path | None = None,
    opset: int = DEFAULT_OPSET,
    **options: Unpack[Options],
) -> Written:
    """Write a network as an ONNX file that computes what it computes, and tell how close it comes.

    `example` is an image (1, C, H, W) of the size to export at; `precision` is fp32, fp16 or int8, which needs images
    to `calibrate` on. The caller's model is not changed. Raises ExportError, or ParityError where the file computes
    something else, and leaves no file then.
    """
    require_opset(opset)
    _require_precision(precision, calibrate)
    require_images(calibrate)
    job, story = _ready(model, example, opset, options)
    wanted = Wanted({precision: _target(path)}, calibrate, table=False)
    return write_onnx(job, wanted, story).files[0]


def export_program(
    model: nn.Module, path: str | Path, *, example: Tensor, compiled: bool = False, **options: Unpack[Options]
) -> WrittenProgram:
    """Write a network as a `torch.export` program (.pt2) that computes what it computes, and tell how close it comes.

    `compiled` makes machine code of it by AOTInductor. Raises as `export_onnx` does.
    """
    job, story = _ready(model, example, DEFAULT_OPSET, options)
    return write_program(job, _target(path), story, compiled=compiled)


def _ready(model: nn.Module, example: Tensor, opset: int, options: Options) -> tuple[Job, dict[str, str]]:
    subject, known = _subject(model, example, options)
    job = prepare(subject, _settings(opset, options, known=known))
    story = tell_story(job, None)
    if not known:
        del story[f"{PREFIX}preprocessing"]
    return job, story


def _settings(opset: int, options: Options, *, known: bool) -> Settings:
    as_they_are = {name: value for name, value in options.items() if name not in {"dynamic", "mean", "std"}}
    settings = Settings(read_axes(options.get("dynamic", "batch")), opset, **as_they_are)  # type: ignore[arg-type]
    if settings.preprocess and not known:
        raise ExportError("nothing is known of the images' normalisation", "preprocess=True", "give mean= and std=")
    require_images(settings.images)
    return settings


def _subject(model: nn.Module, example: Tensor, options: Options) -> tuple[Subject, bool]:
    """Copy a network with what there is to know of its images, and say whether anything was known."""
    channels, size = _image(example)
    provenance, mean, std = provenance_of(model), options.get("mean"), options.get("std")
    default = Preprocessing((0.0,) * channels, (1.0,) * channels, size, channels)
    preprocessing = Images(mean, std, size).applied(provenance.preprocessing or default)
    if preprocessing.channels != channels:
        what = f"the example has {channels} channels, and mean and std are of {preprocessing.channels}"
        raise ExportError(what, "example", "give mean= and std= with a number for each channel")
    subject = Subject(copy.deepcopy(model), replace(provenance, preprocessing=preprocessing))
    return subject, provenance.preprocessing is not None or not (mean is None or std is None)


def _image(example: Any) -> tuple[int, tuple[int, int]]:
    if not isinstance(example, Tensor) or example.ndim != _IMAGE_AXES or not example.is_floating_point():
        shape = getattr(example, "shape", None)
        what = type(example).__name__ if shape is None else f"{tuple(shape)} of {example.dtype}"
        raise ExportError(f"this is no batch of images: {what}", "example", "give floats (1, C, H, W)")
    channels, height, width = example.shape[1:]
    return channels, (height, width)


def _require_precision(precision: str, calibrate: object) -> None:
    possible = [name for name in TOLERANCES if name != "bf16"]  # which ONNX Runtime does not run, so it has no parity
    if precision not in possible:
        hint = nearest(precision, possible) or f"they are {', '.join(possible)}"
        raise ExportError(f"no precision is called '{precision}'", "precision", hint)
    if (precision == "int8") != (calibrate is not None):
        what = "calibrate= is for integers" if calibrate else "integers need images to find their scales on"
        raise ExportError(what, "precision", 'say precision="int8"' if calibrate else "give calibrate=FOLDER")


def _target(path: str | Path) -> Path:
    target = Path(path)
    if not target.parent.is_dir():
        raise ExportError("there is no such folder", str(target.parent), "make it first")
    return target
