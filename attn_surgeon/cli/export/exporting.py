"""What `export` does for each format, and how it tells of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from attn_surgeon.cli.files import size_text
from attn_surgeon.cli.output import console, print_error, print_json, print_table, table
from attn_surgeon.export.parity import Parity, ParityError
from attn_surgeon.progress import StepProgress

if TYPE_CHECKING:
    from rich.console import Console

    from attn_surgeon.export.job import Job
    from attn_surgeon.export.measuring import Data, Measured


@dataclass(frozen=True)
class File:
    """A file that was written: what it is in words, and how it compares."""

    path: Path
    what: str
    parities: tuple[Parity, ...]
    facts: Mapping[str, Any]


@dataclass(frozen=True)
class Exported:
    """Everything that one command wrote and measured."""

    files: tuple[File, ...]
    measured: tuple[Measured, ...] = ()
    remarks: tuple[str, ...] = ()


def to_onnx(
    job: Job,
    targets: Mapping[str, Path],
    story: Mapping[str, str],
    progress: StepProgress,
    *,
    calibrate: str | None,
    data: Data | None,
) -> Exported:
    """Write ONNX files, one for each precision."""
    from attn_surgeon.export.onnx.onnx_file import Wanted, write_onnx

    report = write_onnx(job, Wanted(targets, calibrate, data), story, progress)
    files = [
        File(
            each.path,
            f"{each.precision}, opset {job.settings.opset}, {each.nodes} nodes",
            each.parities,
            {"precision": each.precision, "opset": job.settings.opset, "nodes": each.nodes},
        )
        for each in report.files
    ]
    remarks = [] if report.choice is None else [report.choice.told]
    return Exported(tuple(files), report.measured, (*remarks, *_slow(report.measured)))


def _slow(measured: Sequence[Measured]) -> list[str]:
    """Say which precisions save no time."""
    single = next((row for row in measured if row.precision == "fp32"), None)
    slow = [row.precision for row in measured if single and row.seconds - single.seconds > row.spread + single.spread]
    return [f"{' and '.join(slow)} saved no time here: ONNX Runtime on this CPU, one image at a time"] if slow else []


def to_program(job: Job, target: Path, story: Mapping[str, str], progress: StepProgress, *, compiled: bool) -> Exported:
    """Write a torch.export program."""
    from attn_surgeon.export.program import write_program

    written = write_program(job, target, story, compiled=compiled, progress=progress)
    what = "compiled by AOTInductor" if compiled else "a torch.export program"
    return Exported((File(written.path, what, (written.parity,), {"compiled": compiled}),))


@contextmanager
def differences_told(*, as_json: bool) -> Iterator[None]:
    """Say that a file computes something else than the network, and exit 1."""
    try:
        yield
    except ParityError as error:
        if as_json:
            print_json({"error": {"what": error.what, "where": error.where, "hint": error.hint}, "output": None})
        else:
            print_error(error.what, error.where, error.hint, as_json=False)
        raise typer.Exit(1) from None


def show(network: str, job: Job, exported: Exported, *, as_json: bool) -> None:
    """Print what was written."""
    if as_json:
        print_json({"network": network, **_document(job, exported)})
    else:
        _print(job, exported, console())


def _document(job: Job, exported: Exported) -> dict[str, Any]:
    return {
        "files": [
            {"output": str(file.path), **file.facts, "parity": [parity.to_dict() for parity in file.parities]}
            for file in exported.files
        ],
        "dynamic": {axis.name: [axis.low, axis.high] if axis.ranged else None for axis in job.axes},
        "outputs": list(job.network.outputs),
        "grafts": list(job.grafts),
        "left_out": list(job.dropped),
        "measured": [asdict(row) for row in exported.measured],
        "remarks": list(exported.remarks),
        "notes": list(job.loaded.notes),
    }


def _print(job: Job, exported: Exported, out: Console) -> None:
    for file in exported.files:
        for parity in file.parities:
            print_parity(file.path.name, parity, out)
    if exported.measured:
        _print_measured(exported.measured, out)
    if job.dropped:
        grafts = "graft" if len(job.grafts) == 1 else "grafts"
        out.print(f"left out {len(job.dropped)} of {len(job.grafts)} {grafts}: exactly the identity")
    for remark in exported.remarks:
        out.print(escape(remark))
    opened = ", ".join(axis.name for axis in job.axes) or "no axis"
    for file in exported.files:
        name = f"wrote [bold]{escape(str(file.path))}[/] ({size_text(file.path)})"
        out.print(f"{name}: {file.what}, {opened} open", soft_wrap=True)


def print_parity(name: str, parity: Parity, out: Console) -> None:
    """Show how far a file is from what it was compared with."""
    columns = ["images (N×H×W)", "largest difference", "of the largest output", "same top-1"]
    rows = [
        [item.size, f"{item.absolute:.1e}", f"{item.relative:.1e}", _percent(item.agreement)]
        for item in parity.differences
    ]
    title = f"{name} and {parity.against} (allowed {parity.tolerance:g})"
    print_table(out, table(title, columns, rows, right=columns[1:]))
    if parity.silent:
        out.print("every output is zero, so this compares nothing: is the network's head still untrained?")
    out.print()


def _print_measured(measured: Sequence[Measured], out: Console) -> None:
    columns = ["precision", "top-1", "size", "one image", "spread"]
    rows = [
        [
            row.precision,
            _percent(row.top1, 2),
            f"{row.bytes / 1e6:.2f} MB",
            f"{1e3 * row.seconds:.2f} ms",
            f"{1e3 * row.spread:.2f} ms",
        ]
        for row in measured
    ]
    print_table(out, table("ONNX Runtime on the CPU, one thread", columns, rows, right=columns[1:]))
    out.print()


def _percent(share: float | None, digits: int = 0) -> str:
    return "-" if share is None else f"{100 * share:.{digits}f} %"
