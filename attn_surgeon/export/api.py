"""What a program calls to export a network that it has at hand; the command line starts from a name or a file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.jit import ScriptModule

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.artefact.provenance import provenance_of, set_provenance
from attn_surgeon.errors import ExportError, nearest
from attn_surgeon.export.axes import read_axes
from attn_surgeon.export.images import require_images
from attn_surgeon.export.job import Job, Settings, prepare
from attn_surgeon.export.onnx.metadata import tell_story
from attn_surgeon.export.onnx.onnx_file import TOLERANCES, Wanted, Written, write_onnx
from attn_surgeon.export.onnx.to_onnx import DEFAULT_OPSET, require_opset
from attn_surgeon.export.program import WrittenProgram, write_program
from attn_surgeon.networks.preprocessing import Preprocessing, PreprocessingOverrides
from attn_surgeon.surgery.isolation import copied

_IMAGE_AXES = 4


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    example: Tensor,
    dynamic: str | Sequence[str] = "batch",
    precision: str = "fp32",
    calibrate: str | Path | None = None,
    opset: int = DEFAULT_OPSET,
    preprocess: bool = False,
    softmax: bool = False,
    keep_identity: bool = False,
    images: str | Path | None = None,
    tolerance: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> Written:
    """Write a network as an ONNX file that computes what it computes, and tell how close it comes.

    The caller's model is not changed, and what is at `path` is replaced.

    Args:
        example: images (N, C, H, W) of the size to export at; their values do not matter.
        dynamic: axes left open, "batch,height=32:256" or a list of such; "none" or an empty list for no axis.
        precision: fp32, fp16, or int8, which needs a folder of images to `calibrate` on.
        opset: the ONNX operator set, 18 to 25.
        preprocess: take uint8 images (N, H, W, C), and normalise them inside.
        softmax: give probabilities.
        keep_identity: keep grafts that are exactly the identity; they are left out otherwise.
        images: a folder of images to compare on; those to calibrate on, or seeded ones, otherwise.
        tolerance: the largest difference allowed, over the largest output.
        mean, std: how images are normalised; an artefact knows. Where nobody does, those compared go from 0 to 1.

    Raises:
        ParityError: the file computes something else than the network; nothing is written then.
        SurgeonError: the network cannot be exported as it was asked for: an ExportError, ExampleError or DataError.
    """
    require_opset(opset)
    _require_precision(precision, calibrate)
    require_images(calibrate)
    target = _target(path, ".onnx")
    settings = Settings(read_axes(dynamic), opset, keep_identity, preprocess, softmax, images or calibrate, tolerance)
    job, story = _ready(model, example, settings, mean, std)
    return write_onnx(job, Wanted({precision: target}, calibrate, table=False), story).files[0]


def export_program(
    model: nn.Module,
    path: str | Path,
    *,
    example: Tensor,
    dynamic: str | Sequence[str] = "batch",
    compiled: bool = False,
    preprocess: bool = False,
    softmax: bool = False,
    keep_identity: bool = False,
    images: str | Path | None = None,
    tolerance: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> WrittenProgram:
    """Write a network as a `torch.export` program (.pt2) that computes what it computes, and tell how close it comes.

    `compiled` makes machine code of it by AOTInductor. Programs give a tensor, or of several outputs a dict by name.
    The other arguments, and what is raised, are those of `export_onnx`.
    """
    target = _target(path, ".pt2")
    settings = Settings(read_axes(dynamic), DEFAULT_OPSET, keep_identity, preprocess, softmax, images, tolerance)
    job, story = _ready(model, example, settings, mean, std)
    return write_program(job, target, story, compiled=compiled)


def _ready(
    model: nn.Module, example: Tensor, settings: Settings, mean: Sequence[float] | None, std: Sequence[float] | None
) -> tuple[Job, dict[str, str]]:
    require_images(settings.images)
    loaded = _loaded(model, example, PreprocessingOverrides(_numbers(mean), _numbers(std), _size(example)))
    if settings.preprocess and loaded.preprocessing.assumed:
        raise ExportError("nothing is known of the images' normalisation", "preprocess", "give mean and std")
    job = prepare(loaded, settings)
    return job, tell_story(job, None)


def _numbers(values: Sequence[float] | None) -> tuple[float, ...] | None:
    """Take numbers of any kind, such as arrays hold."""
    return None if values is None else tuple(float(value) for value in values)


def _loaded(model: nn.Module, example: Tensor, said: PreprocessingOverrides) -> LoadedNetwork:
    """Copy a network, with what there is to know of its images."""
    if not isinstance(model, nn.Module) or isinstance(model, ScriptModule):
        raise ExportError(f"this is no module of Python: {type(model).__name__}", "model", "give an nn.Module")
    channels, provenance = example.shape[1], provenance_of(model)
    default = Preprocessing((0.0,) * channels, (1.0,) * channels, _size(example), channels, assumed=True)
    known = provenance.preprocessing or default
    for name, values in (("mean", said.mean), ("std", said.std)):
        if values is not None and len(values) != channels:
            raise ExportError(f"{name} has {len(values)} values, the example {channels} channels", name, "give as many")
    if said.mean is None and known.channels != channels:
        what = f"the example has {channels} channels, and the network's images have {known.channels}"
        raise ExportError(what, "example", "give mean and std too, if it is right")
    provenance = replace(provenance, preprocessing=said.applied(known))
    return LoadedNetwork(set_provenance(copied(model), provenance))


def _size(example: Any) -> tuple[int, int]:
    """Give the height and width of images; raise ExportError where an example is none."""
    if not isinstance(example, Tensor) or example.ndim != _IMAGE_AXES or not example.is_floating_point():
        shape = getattr(example, "shape", None)
        what = type(example).__name__ if shape is None else f"{tuple(shape)} of {example.dtype}"
        raise ExportError(f"this is no batch of images: {what}", "example", "give floats (N, C, H, W)")
    height, width = example.shape[2:]
    return height, width


def _require_precision(precision: str, calibrate: object) -> None:
    possible = [name for name in TOLERANCES if name != "bf16"]  # which ONNX Runtime does not run, so it has no parity
    if precision not in possible:
        hint = nearest(precision, possible) or f"they are {', '.join(possible)}"
        raise ExportError(f"no precision is called '{precision}'", "precision", hint)
    if (precision == "int8") != (calibrate is not None):
        what = "calibrate is for integers" if calibrate else "integers need images to find their scales on"
        raise ExportError(what, "precision", 'say precision="int8"' if calibrate else "give a folder as calibrate")


def _target(path: str | Path, suffix: str) -> Path:
    target = Path(path)
    if target.suffix != suffix:
        raise ExportError(f"the file's name does not end in {suffix}", str(path), f"name it {target.stem}{suffix}")
    if target.is_dir():
        raise ExportError("this is a folder", str(path), "name a file")
    if not target.parent.is_dir():
        raise ExportError("there is no such folder", str(target.parent), "make it first")
    if not os.access(target.parent, os.W_OK):
        raise ExportError("this folder cannot be written", str(target.parent), "choose another")
    return target
