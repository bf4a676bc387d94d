"""What `export --tensorrt` does: the ONNX file, its lint, and the engine where TensorRT is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import typer

from attn_surgeon.artefact.header import SUFFIX
from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.cli.export.exporting import differences_told, print_parity
from attn_surgeon.cli.options import OptionError
from attn_surgeon.cli.output import console, print_json, say, table
from attn_surgeon.errors import ExportError
from attn_surgeon.export.job import Settings, prepare
from attn_surgeon.export.onnx.metadata import tell_story
from attn_surgeon.export.onnx.onnx_file import Wanted, Written, write_onnx
from attn_surgeon.export.tensorrt.build import Options, import_tensorrt
from attn_surgeon.export.tensorrt.engine import Engine, write_engine
from attn_surgeon.export.tensorrt.lint import Finding, lint
from attn_surgeon.export.tensorrt.lint import table as operator_table
from attn_surgeon.export.tensorrt.shapes import Shapes, read_shapes
from attn_surgeon.progress import StepProgress


@dataclass(frozen=True)
class Request:
    """What is wanted of TensorRT."""

    precision: str
    shapes: str | None
    options: Options
    lint_only: bool
    calibrate: str | None


def export(
    network: str,
    loaded: LoadedNetwork,
    settings: Settings,
    request: Request,
    targets: tuple[Path, Path],
    progress: StepProgress,
    *,
    as_json: bool,
) -> None:
    """Write the ONNX file for TensorRT and lint it; build the engine, or say what is missing for that.

    `targets` are the ONNX file and the engine.

    Exit 1 where only the lint was asked for and something stands against the file.
    """
    shapes = _shapes(loaded, request.shapes)
    beside, target = targets
    job = prepare(loaded, replace(settings, axes=shapes.axes))
    story = tell_story(job, network if network.endswith(SUFFIX) else None)
    wanted = Wanted({request.precision: beside}, request.calibrate, table=False, tensorrt=True)
    with differences_told(as_json=as_json):
        written = write_onnx(job, wanted, story, progress).files[0]
        findings = lint(beside)
        if not as_json:
            for note in loaded.notes:
                say(note)
            _tell_lint(written, findings)
        if request.lint_only or findings:
            _end_with_lint(network, written, findings, request, as_json=as_json)
        trt = _import(network, written, as_json=as_json)
        engine = write_engine(trt, job, beside, target, shapes, request.options, request.precision, progress)
    _tell_engine(network, written, engine, as_json=as_json)


def _shapes(loaded: LoadedNetwork, text: str | None) -> Shapes:
    """Read the shapes; without any, one image of the network's own size."""
    preprocessing = loaded.preprocessing
    own = preprocessing.size
    if text is None:
        text = f"1x{preprocessing.channels}x{own[0]}x{own[1]}"
    shapes = read_shapes(text, preprocessing.channels)
    sides = {shapes.low[2:], shapes.usual[2:], shapes.high[2:]}
    if len(sides) == 1 and sides != {own}:
        height, width = sides.pop()
        raise OptionError(f"the images are {own[0]}x{own[1]}", "--shapes", f"add --size {height}x{width}")
    return shapes


def _document(network: str, written: Written, findings: list[Finding]) -> dict[str, Any]:
    return {
        "network": network,
        "files": [{"output": str(written.path), "precision": written.precision, "nodes": written.nodes}],
        "parity": [parity.to_dict() for parity in written.parities],
        "lint": {"tensorrt": operator_table()["tensorrt"], "findings": [asdict(finding) for finding in findings]},
    }


def _end_with_lint(network: str, written: Written, findings: list[Finding], request: Request, *, as_json: bool) -> None:
    if as_json:
        print_json(_document(network, written, findings))
    raise typer.Exit(int(bool(findings)))


def _import(network: str, written: Written, *, as_json: bool) -> Any:
    """Import TensorRT, or say what is missing, with the ONNX file written and linted; exit 2."""
    try:
        return import_tensorrt()
    except ExportError as error:
        if not as_json:
            raise
        told: Mapping[str, Any] = {"error": {"what": error.what, "where": error.where, "hint": error.hint}}
        print_json({**told, **_document(network, written, [])})
        raise typer.Exit(2) from None


def _tell_lint(written: Written, findings: list[Finding]) -> None:
    out = console()
    for parity in written.parities:
        print_parity(written.path.name, parity, out)
    version = operator_table()["tensorrt"]
    if findings:
        rows = [[finding.node, finding.operator, finding.what] for finding in findings]
        out.print(table(f"against TensorRT {version}'s operator table", ["node", "operator", "why"], rows))
    verdict = f"{len(findings)} nodes stand against it" if findings else "nothing stands against it"
    file = f"{written.path} ({written.precision}, {written.nodes} nodes)"
    out.print(f"wrote {file}; by TensorRT {version}'s operator table {verdict}", soft_wrap=True)


def _tell_engine(network: str, written: Written, engine: Engine, *, as_json: bool) -> None:
    if as_json:
        made = {"output": str(engine.path), "parity": engine.parity.to_dict(), "seconds": engine.seconds}
        print_json({**_document(network, written, []), "engine": made})
        return
    out = console()
    print_parity(engine.path.name, engine.parity, out)
    out.print(f"wrote {engine.path}: {1e3 * engine.seconds:.2f} ms for the usual shape")
