"""`attn-surgeon export`: ship a network to other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attn_surgeon.artefact.header import SUFFIX
from attn_surgeon.cli.export.checks import precisions as named_precisions
from attn_surgeon.cli.export.checks import require_sense
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
    Weights,
    open_from_options,
)
from attn_surgeon.cli.output import say, steps

_ENDINGS = {"fp32": ".onnx", "fp16": "-fp16.onnx", "bf16": "-bf16.onnx", "int8": "-int8.onnx", "pt2": ".pt2"}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon export demo-cbam.safetensors --onnx")(export)


def export(
    context: typer.Context,
    artefact: NetworkOrNewest = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write an ONNX file.")] = False,
    pt2: Annotated[bool, typer.Option("--pt2", help="Write a torch.export program.")] = False,
    tensorrt: Annotated[bool, typer.Option("--tensorrt", help="Build a TensorRT engine (untried on a GPU).")] = False,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the program by AOTInductor.")] = False,
    dynamic: Annotated[
        str,
        typer.Option(metavar="AXES", help="Axes left open: batch,height,width, with a range as batch=1:32, or none."),
    ] = "batch",
    opset: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="The ONNX operator set, 18 to 25; without, 20, for bfloat16 22.", show_default=False
        ),
    ] = None,
    fp16: Annotated[bool, typer.Option("--fp16", help="Write an ONNX file in half precision.")] = False,
    bf16: Annotated[bool, typer.Option("--bf16", help="Build the engine from bfloat16.")] = False,
    int8: Annotated[
        bool, typer.Option("--int8", help="Write an ONNX file in eight-bit integers; beside --fp16, another one.")
    ] = False,
    calibrate: Annotated[
        str | None, typer.Option(metavar="DIR", help="Images to find integer scales on, or demo.", show_default=False)
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="DIR", help="Images by class to measure accuracy on.", show_default=False)
    ] = None,
    split: Annotated[str, typer.Option(metavar="PART", help="The part of the data, where it has parts.")] = "val",
    limit: Annotated[
        int | None, typer.Option(metavar="N", help="Only so many images of it.", min=1, show_default=False)
    ] = None,
    images: Annotated[
        str | None,
        typer.Option(
            metavar="DIR",
            help="Images to compare on, or demo; without, those to find scales on, or seeded ones.",
            show_default=False,
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", help="Largest difference over the largest output.", min=0, show_default=False),
    ] = None,
    preprocess: Annotated[bool, typer.Option("--preprocess", help="Take uint8 images (N, H, W, C).")] = False,
    softmax: Annotated[bool, typer.Option("--softmax", help="Give probabilities.")] = False,
    keep_identity: Annotated[
        bool, typer.Option("--keep-identity", help="Keep grafts that are exactly the identity.")
    ] = False,
    shapes: Annotated[
        str | None,
        typer.Option(metavar="SHAPES", help="Smallest, usual and largest images of an engine.", show_default=False),
    ] = None,
    lint_only: Annotated[
        bool, typer.Option("--lint-only", help="Only see whether TensorRT's parser takes the file.")
    ] = False,
    workspace: Annotated[float, typer.Option(metavar="GB", help="Memory for building an engine; 0: all.", min=0)] = 0,
    timing_cache: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the builder's timings here.", show_default=False)
    ] = None,
    version_compatible: Annotated[
        bool, typer.Option("--version-compatible", help="An engine for later TensorRTs too.")
    ] = False,
    hardware_compatible: Annotated[
        bool, typer.Option("--hardware-compatible", help="An engine for all GPUs from Ampere on.")
    ] = False,
    source: Source = None,
    own: Own = None,
    weights: Weights = None,
    args: Arguments = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Export a network and compare the file with PyTorch at every size it is made for. Exit 1 where they differ."""
    from attn_surgeon.cli.export import exporting
    from attn_surgeon.export.axes import read_axes
    from attn_surgeon.export.images import require_images
    from attn_surgeon.export.job import Settings, prepare
    from attn_surgeon.export.measuring import Data
    from attn_surgeon.export.onnx.metadata import tell_story
    from attn_surgeon.export.onnx.to_onnx import opset_for, require_opset

    require_sense(context)
    precisions = named_precisions(context.params)
    opset = opset_for(precisions) if opset is None else opset
    require_opset(opset, precisions)
    for folder in (images, calibrate):
        require_images(folder)
    settings = Settings(read_axes(dynamic), opset, keep_identity, preprocess, softmax, images or calibrate, tolerance)
    path = given_or_newest(artefact)
    with steps(f"open {path}"):
        loaded = open_from_options(path, weights=weights, args=args, source=source, mean=mean, std=std, size=size)
    if preprocess and loaded.preprocessing.assumed:
        what = "nothing says how this network's images are normalised"
        raise OptionError(what, "--preprocess", "say it with --mean and --std")
    with steps(f"export {path}") as progress:
        stem = Path(path).stem if path.endswith(SUFFIX) else loaded.name
        if tensorrt:
            from attn_surgeon.cli.export import tensorrt as engines
            from attn_surgeon.export.tensorrt.build import Options

            given = engines.Request(
                (precisions or ["fp32"])[0],
                shapes,
                Options(int(workspace * 2**30), timing_cache, version_compatible, hardware_compatible),
                lint_only=lint_only,
                calibrate=calibrate,
            )
            places = _beside(output, stem, given.precision, force=force, lint_only=lint_only)
            engines.export(path, loaded, settings, given, places, progress, as_json=as_json)
            return
        kinds = ["pt2"] if pt2 else precisions or ["fp32"]
        targets = {kind: _target(output or stem + _ENDINGS[kind], kind, force=force) for kind in kinds}
        job = prepare(loaded, settings)
        story = tell_story(job, path if path.endswith(SUFFIX) else None)
        with exporting.differences_told(as_json=as_json):
            if pt2:
                exported = exporting.to_program(job, targets["pt2"], story, progress, compiled=compiled)
            else:
                measured_on = None if data is None else Data(data, split, limit)
                exported = exporting.to_onnx(job, targets, story, progress, calibrate=calibrate, data=measured_on)
    for note in () if as_json else loaded.notes:
        say(note)
    exporting.show(path, job, exported, as_json=as_json)


def _beside(output: str | None, stem: str, kind: str, *, force: bool, lint_only: bool) -> tuple[Path, Path]:
    """Name the ONNX file for TensorRT, and the engine; without an engine the name given is the file's."""
    if lint_only:
        onnx = _target(output or stem + _ENDINGS[kind], kind, force=force)
        return onnx, onnx.with_suffix(".engine")
    engine = writable(output or f"{stem}.engine", force=force, suffixes=(".engine",))
    beside = f"{engine.with_suffix('')}{_ENDINGS[kind]}"
    if Path(beside).exists() and not force:
        raise OptionError("the engine's ONNX file exists already", beside, "add --force, or name another with --output")
    return _target(beside, kind, force=force), engine


def _target(path: str, kind: str, *, force: bool) -> Path:
    return writable(path, force=force, suffixes=(Path(f"x{_ENDINGS[kind]}").suffix,))
