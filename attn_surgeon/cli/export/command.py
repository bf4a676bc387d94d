"""`attn-surgeon export`: write a network for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attn_surgeon.artefact.header import ARTEFACT_SUFFIX
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
from attn_surgeon.cli.output import steps

if TYPE_CHECKING:
    from attn_surgeon.export.formats import Format


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon export demo-cbam.safetensors --onnx")(export)


def export(
    context: typer.Context,
    artefact: NetworkOrNewest = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write an ONNX file.")] = False,
    pt2: Annotated[bool, typer.Option("--pt2", help="Write a torch.export program.")] = False,
    tensorrt: Annotated[
        bool, typer.Option("--tensorrt", help="Build a TensorRT engine (never run with TensorRT).")
    ] = False,
    format: Annotated[  # noqa: A002
        str | None,
        typer.Option(metavar="NAME", help="The format by its name, such as onnx or pt2.", show_default=False),
    ] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the program with AOTInductor.")] = False,
    dynamic: Annotated[
        str,
        typer.Option(
            metavar="AXES", help="Dynamic axes: batch,height,width, with a range as in batch=1:32, or none for none."
        ),
    ] = "batch",
    opset: Annotated[
        int | None,
        typer.Option(metavar="N", help="ONNX opset, 18 to 25 (default 20; 22 for bfloat16).", show_default=False),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Write an ONNX file in half precision.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Build the TensorRT engine in bfloat16.")] = False,
    int8: Annotated[bool, typer.Option("--int8", help="Write an ONNX file quantised to 8-bit integers.")] = False,
    calibrate: Annotated[
        str | None, typer.Option(metavar="DIR", help="Calibration images for int8, or demo.", show_default=False)
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="DIR", help="Images in class folders to measure accuracy on.", show_default=False),
    ] = None,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="Split of the data, where it has splits.")] = "val",
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Use at most N images of the data.", min=1, show_default=False)
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Images to compare with PyTorch on, or demo (default: the calibration images, or random ones).",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            help="Largest difference allowed, relative to the largest output.",
            min=0,
            show_default=False,
        ),
    ] = None,
    preprocess: Annotated[
        bool, typer.Option("--preprocess", help="Take uint8 images (N, H, W, C) and normalise them in the file.")
    ] = False,
    softmax: Annotated[bool, typer.Option("--softmax", help="Return probabilities.")] = False,
    keep_identity: Annotated[
        bool, typer.Option("--keep-identity", help="Keep grafts that are exactly the identity.")
    ] = False,
    shapes: Annotated[
        str | None,
        typer.Option(
            metavar="SHAPES",
            help="Smallest, typical and largest images of an engine: 1x3x224x224,8x3x224x224,32x3x224x224.",
            show_default=False,
        ),
    ] = None,
    lint_only: Annotated[
        bool, typer.Option("--lint-only", help="Only check the ONNX file against TensorRT's supported operators.")
    ] = False,
    workspace: Annotated[float, typer.Option(metavar="GB", help="Memory for building an engine; 0: all.", min=0)] = 0,
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="TensorRT's timing cache.", show_default=False)
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="Build an engine that later TensorRT versions can run.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="Build an engine for all GPUs from Ampere on.")
    ] = False,
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
        axes=read_axes(dynamic),
        keep_identity=keep_identity,
        preprocess=preprocess,
        softmax=softmax,
        images=images or calibrate,
        tolerance=tolerance,
    )
    options = chosen.options(**{name: context.params[name] for name in chosen.option_names if name in context.params})
    path = given_or_newest(artefact)
    targets = _targets(chosen, path, output, precisions, options, force=force)
    with steps(f"open {path}"):
        network = open_from_options(
            path, weights=weights, args=args, source=source, trust=trust, mean=mean, std=std, size=size
        )
    with steps(f"export {path}") as progress, parity_errors(as_json=as_json):
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
