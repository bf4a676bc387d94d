"""The Python functions that export a network: `export_onnx`, `export_program`, and `export` for any format."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.jit import ScriptModule

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import provenance_of, set_provenance
from attn_surgeon.errors import ExportError, nearest
from attn_surgeon.export.dynamic_axes import read_axes
from attn_surgeon.export.example_images import require_images
from attn_surgeon.export.formats import Format, find_format
from attn_surgeon.export.onnx.convert import DEFAULT_OPSET, require_opset
from attn_surgeon.export.onnx.format import OnnxOptions
from attn_surgeon.export.program import ProgramOptions
from attn_surgeon.export.result import ExportedFile
from attn_surgeon.export.settings import ExportRequest, ExportSettings
from attn_surgeon.networks.preprocessing import Preprocessing, PreprocessingOverrides
from attn_surgeon.surgery.isolation import copied

_IMAGE_RANK = 4  # (N, C, H, W)


def export_onnx(
    model: nn.Module,
    path: str | Path,
    *,
    example: Tensor,
    dynamic: str | Sequence[str] | None = None,
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
) -> ExportedFile:
    """Write a network as an ONNX file, and compare its outputs in ONNX Runtime with PyTorch's.

    The model is not changed. An existing file at `path` is replaced only if the outputs agree.

    Args:
        model: the network.
        path: the file to write, NAME.onnx.
        example: images (N, C, H, W) of the size to export at; their values do not matter.
        dynamic: the dynamic axes, "batch,height=32:256" or a list of such; "none" or an empty list for none.
            By default the batch, or none for a network that returns objects.
        precision: fp32, fp16 or int8.
        calibrate: a folder of images for int8 calibration.
        opset: the version of the ONNX operator set, 18 to 25.
        preprocess: include the normalisation in the file, which then takes uint8 images (N, H, W, C).
        softmax: return probabilities instead of logits.
        keep_identity: keep grafts that are exactly the identity, which are removed by default.
        images: a folder of images to compare outputs on; by default those of `calibrate`, or seeded random images.
        tolerance: the largest allowed difference, relative to the largest output.
        mean, std: the normalisation of the images, one value per channel; by default that of the model's artefact.

    Returns:
        The file, with its differences from PyTorch.

    Raises:
        ParityError: the outputs of the file differ from the network's; nothing is written then.
        SurgeonError: the network cannot be exported in this way: an ExportError, ExampleError or DataError.

    >>> import tempfile, torch, attn_surgeon
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = attn_surgeon.export_onnx(nn.Conv2d(3, 8, 3), f"{folder}/m.onnx", example=torch.zeros(1, 3, 32, 32))
    >>> file.parity.passed, file.facts["nodes"]
    (True, 1)
    """
    require_opset(opset)
    _require_precision(precision, calibrate)
    require_images(calibrate)
    return export(
        model,
        path,
        format="onnx",
        precision=precision,
        example=example,
        settings=ExportSettings(
            axes=None if dynamic is None else read_axes(dynamic),
            keep_identity=keep_identity,
            preprocess=preprocess,
            softmax=softmax,
            images=images or calibrate,
            tolerance=tolerance,
        ),
        options=OnnxOptions(opset=opset, calibrate=calibrate, benchmark=False),
        mean=mean,
        std=std,
    )


def export_program(
    model: nn.Module,
    path: str | Path,
    *,
    example: Tensor,
    dynamic: str | Sequence[str] | None = None,
    compiled: bool = False,
    preprocess: bool = False,
    softmax: bool = False,
    keep_identity: bool = False,
    images: str | Path | None = None,
    tolerance: float | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ExportedFile:
    """Write a network as a `torch.export` program (.pt2), and compare its outputs with the network's.

    The program returns a tensor or, for several outputs, a dict.

    Args:
        compiled: compile the program with AOTInductor.
        model, path, example, dynamic, preprocess, softmax, keep_identity, images, tolerance, mean, std: as for
            `export_onnx`.

    Raises:
        ParityError, SurgeonError: as for `export_onnx`.
    """
    return export(
        model,
        path,
        format="pt2",
        example=example,
        settings=ExportSettings(
            axes=None if dynamic is None else read_axes(dynamic),
            keep_identity=keep_identity,
            preprocess=preprocess,
            softmax=softmax,
            images=images,
            tolerance=tolerance,
        ),
        options=ProgramOptions(compiled=compiled),
        mean=mean,
        std=std,
    )


def export(
    model: nn.Module,
    path: str | Path,
    *,
    format: str,  # noqa: A002 - the option's name on the command line too
    example: Tensor,
    precision: str = "fp32",
    settings: ExportSettings | None = None,
    options: Any = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
) -> ExportedFile:
    """Write a network as a file of any registered format, and compare its outputs with the network's.

    Args:
        model: the network, which is not changed.
        path: the file to write.
        format: the name of the format: see `attn_surgeon.export.formats.register_format`.
        example: images (N, C, H, W) of the size to export at.
        precision: one of the precisions of the format.
        settings: the settings that all formats share.
        options: the options of the format, an object of its `options` class.
        mean, std: the normalisation of the images, one value per channel; by default that of the model's artefact.

    Raises:
        ParityError, SurgeonError: as for `export_onnx`.
    """
    file_format, settings = find_format(format), settings or ExportSettings()
    target = _target(path, file_format)
    require_images(settings.images)
    network = _as_network(model, example, PreprocessingOverrides(_floats(mean), _floats(std), _size(example)))
    options = file_format.options() if options is None else options
    targets = file_format.targets(str(target), target.stem, [precision], options)
    result = file_format.write(ExportRequest(network=network, settings=settings, options=options, targets=targets))
    if result.error is not None:
        raise result.error
    return result.files[-1]


def _floats(values: Sequence[float] | None) -> tuple[float, ...] | None:
    """Return the values of a sequence or array as a tuple of floats."""
    return None if values is None else tuple(float(value) for value in values)


def _as_network(model: nn.Module, example: Tensor, overrides: PreprocessingOverrides) -> LoadedNetwork:
    """Return a copy of a network with its preprocessing: that of its artefact, with the overrides."""
    if not isinstance(model, nn.Module) or isinstance(model, ScriptModule):
        raise ExportError(f"not a Python module: {type(model).__name__}", "model", "pass an nn.Module")
    channels, provenance = example.shape[1], provenance_of(model)
    default = Preprocessing((0.0,) * channels, (1.0,) * channels, _size(example), channels, assumed=True)
    preprocessing = provenance.preprocessing or default
    for name, values in (("mean", overrides.mean), ("std", overrides.std)):
        if values is not None and len(values) != channels:
            what = f"{name} has {len(values)} values, the example {channels} channels"
            raise ExportError(what, name, "pass one value per channel")
    if overrides.mean is None and preprocessing.channels != channels:
        what = f"the example has {channels} channels, the network's images have {preprocessing.channels}"
        raise ExportError(what, "example", "pass mean and std too, if this is intended")
    provenance = replace(provenance, preprocessing=overrides.applied(preprocessing))
    return LoadedNetwork(set_provenance(copied(model), provenance))


def _size(example: Any) -> tuple[int, int]:
    """Return the height and width of images (N, C, H, W); raise ExportError for anything else."""
    if not isinstance(example, Tensor) or example.ndim != _IMAGE_RANK or not example.is_floating_point():
        shape = getattr(example, "shape", None)
        what = type(example).__name__ if shape is None else f"{tuple(shape)} of {example.dtype}"
        raise ExportError(f"not a batch of images: {what}", "example", "pass floats (N, C, H, W)")
    height, width = example.shape[2:]
    return height, width


def _require_precision(precision: str, calibrate: object) -> None:
    precisions = find_format("onnx").precisions
    if precision not in precisions:
        hint = nearest(precision, precisions) or f"known: {', '.join(precisions)}"
        raise ExportError(f"unknown precision '{precision}'", "precision", hint)
    if (precision == "int8") != (calibrate is not None):
        what = "calibrate has no effect without int8" if calibrate else "int8 needs images to calibrate on"
        raise ExportError(what, "precision", 'use precision="int8"' if calibrate else "pass a folder as calibrate")


def _target(path: str | Path, file_format: Format) -> Path:
    target, suffix = Path(path), file_format.suffixes[0]
    if target.suffix != suffix:
        raise ExportError(f"the file's name does not end in {suffix}", str(path), f"name it {target.stem}{suffix}")
    if target.is_dir():
        raise ExportError("this is a folder", str(path), "name a file")
    if not target.parent.is_dir():
        raise ExportError("no such folder", str(target.parent), "create it first")
    if not os.access(target.parent, os.W_OK):
        raise ExportError("this folder is not writable", str(target.parent), "choose another")
    return target
