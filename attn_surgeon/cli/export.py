"""`attn-surgeon export`: ship a network to other runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from attn_surgeon.cli import completion
from attn_surgeon.cli.files import SUFFIX, given_or_newest, size_text, writable
from attn_surgeon.cli.options import (
    Arguments,
    AsJson,
    Force,
    Mean,
    OptionError,
    Output,
    Own,
    Size,
    Source,
    Std,
    Weights,
    open_network,
)
from attn_surgeon.cli.output import console, print_error, print_json, say, steps, table

if TYPE_CHECKING:
    from rich.console import Console

    from attn_surgeon.export.job import Job
    from attn_surgeon.export.onnx_file import Written
    from attn_surgeon.export.parity import ParityError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon export demo-cbam.safetensors --onnx")(export)


def export(
    artefact: Annotated[
        str | None,
        typer.Argument(
            help="An artefact, or a network as for insert; without one, the newest artefact in this folder.",
            autocompletion=completion.networks,
            show_default=False,
        ),
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write an ONNX file.")] = False,
    dynamic: Annotated[
        str, typer.Option(metavar="AXES", help="Axes left open: batch,height,width, each with a range: batch=1:32.")
    ] = "batch",
    opset: Annotated[int, typer.Option(metavar="N", help="The ONNX operator set, 18 to 25.")] = 20,
    images: Annotated[
        str | None, typer.Option(metavar="DIR", help="Images to compare on, or demo.", show_default=False)
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
    from attn_surgeon.export.axes import read_axes
    from attn_surgeon.export.job import Settings, prepare
    from attn_surgeon.export.onnx_file import write_onnx
    from attn_surgeon.export.parity import ParityError
    from attn_surgeon.export.story import tell_story
    from attn_surgeon.export.to_onnx import require_opset

    if not onnx:
        raise OptionError("no format is named", "", "say what to write: --onnx")
    require_opset(opset)
    settings = Settings(read_axes(dynamic), opset, keep_identity, preprocess, softmax, images, tolerance)
    path = given_or_newest(artefact)
    with steps(f"export {path}") as progress:
        subject = open_network(path, weights=weights, args=args, source=source, mean=mean, std=std, size=size)
        stem = Path(path).stem if path.endswith(SUFFIX) else subject.name
        target = writable(output or f"{stem}.onnx", force=force, suffixes=(".onnx",))
        job = prepare(subject, settings)
        story = tell_story(job, path if path.endswith(SUFFIX) else None)
        try:
            written = write_onnx(job, target, story, progress)
        except ParityError as error:
            _say_no(error, as_json=as_json)
            raise typer.Exit(1) from None
    if as_json:
        print_json({"network": path, **_document(job, written)})
        return
    for note in subject.notes:
        say(note)
    _print(job, written, console())


def _say_no(error: ParityError, *, as_json: bool) -> None:
    if as_json:
        print_json({"error": error.what, "parity": [error.parity.to_dict()], "output": None})
    else:
        print_error(error.what, error.where, error.hint, as_json=False)


def _document(job: Job, written: Written) -> dict[str, Any]:
    return {
        "output": str(written.path),
        "nodes": written.nodes,
        "opset": job.settings.opset,
        "dynamic": {axis.name: [axis.low, axis.high] for axis in job.axes},
        "outputs": list(job.network.outputs),
        "grafts": list(job.grafts),
        "left_out": list(job.dropped),
        "parity": [parity.to_dict() for parity in written.parities],
    }


def _print(job: Job, written: Written, out: Console) -> None:
    for parity in written.parities:
        rows = [
            [item.size, f"{item.absolute:.1e}", f"{item.relative:.1e}", _share(item.agreement)]
            for item in parity.differences
        ]
        columns = ["images", "largest difference", "of the largest output", "same top-1"]
        out.print(table(f"compared with {parity.against}", columns, rows, right=columns[1:]))
        out.print()
    if job.dropped:
        out.print(f"{len(job.dropped)} of {len(job.grafts)} grafts are exactly the identity and were left out")
    opened = ", ".join(axis.name for axis in job.axes) or "no axis"
    what = f"opset {job.settings.opset}, {written.nodes} nodes, {opened} open"
    path = escape(str(written.path))
    out.print(f"wrote [bold]{path}[/] ({size_text(written.path)}): {what}", soft_wrap=True)


def _share(agreement: float | None) -> str:
    return "-" if agreement is None else f"{100 * agreement:.0f} %"
