"""What `export` prints: differences from PyTorch, measurements, and the files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from attn_surgeon.cli.files import size_text
from attn_surgeon.cli.output import console, print_error, print_json, print_note, print_table, table
from attn_surgeon.errors import SurgeonError, counted, for_command_line
from attn_surgeon.export.parity import Parity, ParityError
from attn_surgeon.measure.latency import Latency

if TYPE_CHECKING:
    from rich.console import Console

    from attn_surgeon.export.benchmark import FileBenchmark
    from attn_surgeon.export.formats import Format
    from attn_surgeon.export.prepared import PreparedNetwork
    from attn_surgeon.export.result import ExportedFile, ExportResult


@contextmanager
def parity_errors(*, as_json: bool) -> Iterator[None]:
    """Print a ParityError, of a file whose outputs differ from the network's, and exit with 1."""
    try:
        yield
    except ParityError as error:
        if as_json:
            print_json({"error": _error(error), "output": None})
        else:
            print_error(error.what, error.where, error.hint, as_json=False)
        raise typer.Exit(1) from None


def show(network: str, chosen: Format, result: ExportResult, *, as_json: bool) -> None:
    """Print what was written; exit with 1 if a check of the format failed, and with 2 if a step could not be done."""
    if as_json:
        print_json({**({"error": _error(result.error)} if result.error else {}), **_document(network, result)})
    else:
        for note in result.prepared.network.notes:
            print_note(note)
        _print(chosen, result, console())
        if result.error is not None:
            print_error(result.error.what, result.error.where, result.error.hint, as_json=False)
    if result.error is not None:
        raise typer.Exit(2)
    if not result.passed:
        raise typer.Exit(1)


def _error(error: SurgeonError) -> dict[str, str]:
    texts = {"what": error.what, "where": error.where, "hint": error.hint}
    return {name: for_command_line(text) for name, text in texts.items()}


def _document(network: str, result: ExportResult) -> dict[str, Any]:
    from attn_surgeon.export.file_metadata import input_format

    prepared = result.prepared
    return {
        "network": network,
        "files": [file.to_dict() for file in result.files],
        "dynamic": {axis.name: [axis.low, axis.high] if axis.ranged else None for axis in prepared.axes},
        "input": input_format(prepared),
        "outputs": list(prepared.exported.outputs),
        "grafts": list(prepared.grafts),
        "left_out": list(prepared.dropped),
        "measured": [row.to_dict() for row in result.measured],
        "remarks": list(result.remarks),
        "notes": [for_command_line(note) for note in prepared.network.notes],
        **result.details,
    }


def _print(chosen: Format, result: ExportResult, out: Console) -> None:
    from attn_surgeon.export.file_metadata import describe_input, input_format

    prepared = result.prepared
    for file in result.files:
        for parity in file.parities:
            _print_parity(file.path.name, parity, out)
    if result.measured:
        _print_measured(result.measured, out)
    if prepared.dropped:
        count = f"{len(prepared.dropped)} of {counted(len(prepared.grafts), 'graft')}"
        out.print(f"left out {count}: exactly the identity")
    for line in (*result.remarks, describe_input(input_format(prepared))):
        out.print(escape(line), soft_wrap=True)
    for file in result.files:
        out.print(_written(chosen, file, prepared), soft_wrap=True)


def _written(chosen: Format, file: ExportedFile, prepared: PreparedNetwork) -> str:
    axes = ", ".join(axis.name for axis in prepared.axes) or "none"
    what = ", ".join(_facts(file.facts)) or chosen.title
    return f"wrote [bold]{escape(str(file.path))}[/] ({size_text(file.path)}): {what}, dynamic axes: {axes}"


def _facts(facts: Mapping[str, Any]) -> Iterator[str]:
    """Yield facts as `fp32`, `opset 20`, `48 nodes`, `compiled` or `1.20 ms (1.10 to 1.30)`."""
    for name, value in facts.items():
        if name == "precision":
            yield str(value)
        elif name == "nodes":
            yield f"{value} nodes"
        elif name == "seconds":
            yield Latency(value, *facts["quartiles"]).text()
        elif isinstance(value, bool):
            yield from [name] if value else []
        elif name != "quartiles":
            yield f"{name} {value}"


def _print_parity(name: str, parity: Parity, out: Console) -> None:
    columns = ["images (N×H×W)", "largest difference", f"relative (allowed {parity.tolerance:g})", "same top-1"]
    rows = [
        [item.size, f"{item.absolute:.1e}", f"{item.relative:.1e}", _percent(item.agreement)]
        for item in parity.differences
    ]
    print_table(out, table(f"{name} and {parity.against}", columns, rows, right=columns[1:]))
    if parity.silent:
        out.print("every output is zero or empty, so nothing is compared: is the network's head untrained?")
    out.print()


def _print_measured(measured: Sequence[FileBenchmark], out: Console) -> None:
    columns = ["precision", _metric_title(measured), "size", "one image: median (quartiles)"]
    rows = [
        [row.precision, _percent(row.score, 2), f"{row.bytes / 1e6:.2f} MB", row.latency.text()] for row in measured
    ]
    print_table(out, table("ONNX Runtime on the CPU, one thread", columns, rows, right=columns[1:]))
    out.print()


def _metric_title(measured: Sequence[FileBenchmark]) -> str:
    return next((row.metric.title for row in measured if row.metric is not None), "top-1")


def _percent(share: float | None, digits: int = 0) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f} %"
