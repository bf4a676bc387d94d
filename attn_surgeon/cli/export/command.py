"""`attn-surgeon export`: write a network for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from attn_surgeon.artefact.header import ARTEFACT_SUFFIX
from attn_surgeon.cli.export.options import (
    Bf16,
    Calibrate,
    Compiled,
    Data,
    Dynamic,
    FormatName,
    Fp16,
    HardwareCompatible,
    Images,
    Int8,
    KeepIdentity,
    Limit,
    LintOnly,
    Onnx,
    Opset,
    Preprocess,
    Pt2,
    Shapes,
    Softmax,
    Split,
    TensorRt,
    TimingCache,
    Tolerance,
    VersionCompatible,
    Workspace,
)
from attn_surgeon.cli.files import given_or_newest, writable
from attn_surgeon.cli.options import (
    Arguments,
    AsJson,
    Force,
    Mean,
    NetworkOrNewest,
    OptionError,
    Output,
    Own,
    Size,
    Source,
    Std,
    Trust,
    Weights,
    open_from_options,
)
from attn_surgeon.cli.output import show_steps

if TYPE_CHECKING:
    from attn_surgeon.export.formats import Format


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon export demo-cbam.safetensors --onnx")(export)


def export(
    context: typer.Context,
    artefact: NetworkOrNewest = None,
    onnx: Onnx = False,
    pt2: Pt2 = False,
    tensorrt: TensorRt = False,
    format: FormatName = None,  # noqa: A002
    compiled: Compiled = False,
    dynamic: Dynamic = None,
    opset: Opset = None,
    fp16: Fp16 = False,
    bf16: Bf16 = False,
    int8: Int8 = False,
    calibrate: Calibrate = None,
    data: Data = None,
    split: Split = "val",
    limit: Limit = None,
    images: Images = None,
    tolerance: Tolerance = None,
    preprocess: Preprocess = False,
    softmax: Softmax = False,
    keep_identity: KeepIdentity = False,
    shapes: Shapes = None,
    lint_only: LintOnly = False,
    workspace: Workspace = 0,
    timing_cache: TimingCache = None,
    version_compatible: VersionCompatible = False,
    hardware_compatible: HardwareCompatible = False,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    weights: Weights = None,
    args: Arguments = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Export a network and compare the file with PyTorch at the sizes it is made for. Exit 1 if they differ."""
    from attn_surgeon.cli.export.checks import chosen_format, chosen_precisions, require_effect
    from attn_surgeon.cli.export.printing import parity_errors, show
    from attn_surgeon.export.dynamic_axes import read_axes
    from attn_surgeon.export.example_images import require_images
    from attn_surgeon.export.onnx.convert import require_opset
    from attn_surgeon.export.settings import ExportRequest, ExportSettings

    chosen = chosen_format(context.params)
    precisions = chosen_precisions(context.params, chosen)
    require_effect(context, chosen)
    if opset is not None:
        require_opset(opset, precisions)
    for folder in (images, calibrate):
        require_images(folder)
    settings = ExportSettings(
        axes=None if dynamic is None else read_axes(dynamic),
        keep_identity=keep_identity,
        preprocess=preprocess,
        softmax=softmax,
        images=images or calibrate,
        tolerance=tolerance,
    )
    options = chosen.options(**{name: context.params[name] for name in chosen.option_names if name in context.params})
    path = given_or_newest(artefact)
    targets = _targets(chosen, path, output, precisions, options, force=force)
    with show_steps(f"open {path}"):
        network = open_from_options(
            path, weights=weights, args=args, source=source, trust=trust, mean=mean, std=std, size=size
        )
    with show_steps(f"export {path}") as progress, parity_errors(as_json=as_json):
        result = chosen.write(
            ExportRequest(
                network=network,
                settings=settings,
                options=options,
                targets=targets,
                artefact=path if path.endswith(ARTEFACT_SUFFIX) else None,
                progress=progress,
            )
        )
    show(path, chosen, result, as_json=as_json)


def _targets(
    chosen: Format, path: str, output: str | None, precisions: list[str], options: Any, *, force: bool
) -> dict[str, Path]:
    """Return the files to write; raise ArtefactError where one exists or cannot be written."""
    targets = chosen.targets(output, _stem(path), precisions, options)
    for default, target in zip(chosen.targets(None, "x", precisions, options).values(), targets.values(), strict=True):
        writable(str(target), force=force, suffixes=(default.suffix,))
    return targets


def _stem(path: str) -> str:
    """Return the start of the files' names, without opening the network."""
    if path.endswith(ARTEFACT_SUFFIX):
        return Path(path).stem
    if path.endswith(".onnx"):
        raise OptionError("this is an ONNX file", path, "name a network or an artefact; ONNX files are for profile")
    from attn_surgeon.artefact.open_network import network_name

    return network_name(path)
