"""Print the results of commands: tables, one JSON document with `--json`, and notes and progress on stderr."""

from __future__ import annotations

import json
import logging
import math
import os
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from functools import partial
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from attn_surgeon.errors import fitted, for_command_line
from attn_surgeon.optional_dependencies import is_installed

if TYPE_CHECKING:
    from rich.progress import Progress

    from attn_surgeon.surgery.certificate import Certificate
    from attn_surgeon.surgery.plan import Plan
    from attn_surgeon.tables import Table as PlainTable

_WIDTH_OF_FILES = 140  # columns, where the output is no terminal
_UNLIMITED_WIDTH = 10_000
_WIDTH_OF_ALL_COLUMNS = 120
_ON_WIDE_TERMINALS_ONLY = ("channels", "runs", "owner")
_PROGRESS_INTERVAL = 30.0  # seconds between two lines of progress, where there is no terminal


class Verbosity(IntEnum):
    """How much a command prints: errors and its result, notes and progress too, or also the reasons behind them."""

    QUIET = 0
    NORMAL = 1
    VERBOSE = 2


class _NotePrinter(logging.Handler):
    """Print the library's log: why a site is refused, or another placement is tried."""

    def emit(self, record: logging.LogRecord) -> None:
        print_note(record.getMessage())


_note_printer = _NotePrinter()
_logger = logging.getLogger("attn_surgeon")
_verbosity = [Verbosity.NORMAL]


def set_verbosity(verbosity: Verbosity) -> None:
    """Set how much is printed from here on."""
    _verbosity[0] = verbosity
    _logger.removeHandler(_note_printer)
    _logger.setLevel(logging.NOTSET)
    if verbosity is Verbosity.VERBOSE:
        _logger.addHandler(_note_printer)
        _logger.setLevel(logging.INFO)


def is_quiet() -> bool:
    """Return whether only errors and the result are printed."""
    return _verbosity[0] is Verbosity.QUIET


def console(*, stderr: bool = False) -> Console:
    """Return a console as wide as the terminal, or wide enough for tables where there is none."""
    stream = sys.stderr if stderr else sys.stdout
    known = stream.isatty() or "COLUMNS" in os.environ
    return Console(stderr=stderr, width=None if known else _WIDTH_OF_FILES, highlight=False, emoji=False)


def print_json(document: Any) -> None:
    """Print a document as JSON to standard output."""
    unicode = (sys.stdout.encoding or "").lower().startswith("utf")
    sys.stdout.write(json_text(document, ascii_only=not unicode))
    sys.stdout.flush()


def json_text(document: Any, *, ascii_only: bool = False) -> str:
    """Return a document as JSON."""
    return json.dumps(_finite(document), indent=2, ensure_ascii=ascii_only, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:
    """Replace numbers that JSON does not have, infinities and NaN, by null."""
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_error(what: str, where: str, hint: str, *, as_json: bool) -> None:
    """Print in one line what is wrong, where, and what to do next."""
    what, where, hint = fitted(*map(for_command_line, (what, where, hint)))
    if as_json:
        print_json({"error": {"what": what, "where": where, "hint": hint}})
        return
    what, where, hint = map(escape, (what, where, hint))
    parts = [f"[bold red]error:[/] {what}", where, f"[dim]{hint}[/]" if hint else ""]
    console(stderr=True).print("; ".join(part for part in parts if part), soft_wrap=True)


def print_note(text: str) -> None:
    """Print a note to stderr, unless the command is to be quiet."""
    if is_quiet():
        return
    console(stderr=True).print(f"[dim]{escape(for_command_line(text))}[/]", soft_wrap=True)


def note_missing_pictures() -> None:
    """Print which extra to install for the pictures that were left out, if Matplotlib is not installed."""
    if not is_installed("matplotlib"):
        print_note("no pictures without Matplotlib: pip install 'attn-surgeon[draw]'")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, right: Collection[str] = ()) -> Table:
    """Build a table of plain text; the columns named in `right` are numbers, aligned to the right."""
    result = Table(
        title=escape(title), title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim"
    )
    for index, column in enumerate(columns):  # names are copied and numbers compared, so neither may wrap
        number = column in right
        result.add_column(column, justify="right" if number else "left", overflow="fold", no_wrap=number or index == 0)
    for row in rows:
        result.add_row(*(escape(cell) for cell in row))
    return result


def print_table(out: Console, result: Table) -> None:
    """Print a table of numbers; where the terminal is too narrow for it, lines wrap and no number is cut."""
    width = out.width
    out.width = max(width, Measurement.get(out, out.options.update(width=_UNLIMITED_WIDTH), result).maximum)
    out.print(result)
    out.width = width


def key_value_table(rows: Sequence[tuple[str, str]]) -> Table:
    """Build a table of names and values."""
    result = Table(box=None, pad_edge=False, show_header=False)
    result.add_column(style="dim")
    result.add_column(overflow="fold")
    for name, value in rows:
        result.add_row(escape(name), escape(value))
    return result


def rich_table(plain: PlainTable, styles: Mapping[str, Callable[[str], Text]] | None = None) -> Table:
    """Build the table that a terminal shows; `styles` return the text of a cell by the name of its column."""
    result = table(plain.title, plain.columns, [], right=plain.numbers)
    plain_style = [(styles or {}).get(column, Text) for column in plain.columns]
    for row in plain.rows:
        result.add_row(*(style(cell) for style, cell in zip(plain_style, row, strict=True)))
    return result


def print_plan(plan: Plan, out: Console) -> None:
    """Print the grafts, the refused sites with their reasons, and notes; narrow terminals show fewer columns."""
    grafts, *refused = plan.tables
    kept = (
        grafts.columns
        if out.width >= _WIDTH_OF_ALL_COLUMNS
        else [name for name in grafts.columns if name not in _ON_WIDE_TERMINALS_ONLY]
    )
    out.print(rich_table(grafts.only(kept)))
    for plain in refused:
        out.print()
        out.print(rich_table(plain))
    for note in plan.notes:
        out.print(f"\n[yellow]{escape(for_command_line(note))}[/]")


def print_certificate(certificate: Certificate, out: Console) -> None:
    """Print each check with its detail."""
    colours = {"✓": "green", "✗": "bold red", "–": "yellow"}
    result = rich_table(certificate.table, {"": lambda mark: Text(mark, style=colours[mark])})
    result.title = f"certificate: {'[green]passed[/]' if certificate.passed else '[bold red]failed[/]'}"
    out.print(result)


@contextmanager
def show_steps(title: str) -> Iterator[Callable[[str], None]]:
    """Show the current step of a long job on a terminal; print nothing elsewhere."""
    screen = console(stderr=True)
    if is_quiet() or not screen.is_terminal:
        yield lambda step: None
        return
    with screen.status(title) as status:
        yield lambda step: status.update(f"{title}: {step}")


def _lines() -> Callable[[str, int, int], None]:
    """Return a progress callback that prints a line to stderr every half minute."""
    last = time.monotonic()

    def report(title: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= _PROGRESS_INTERVAL:
            last = time.monotonic()
            print_note(f"{title}: {done:,} of {total:,}")

    return report


@contextmanager
def progress_bar(title: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar on a terminal; elsewhere print a line every half minute."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield partial(_lines(), title)
        return
    with _bars(screen) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextmanager
def phase_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar for each phase that has begun, until it is done; see `progress_bar`."""
    screen = console(stderr=True)
    if not screen.is_terminal:
        yield _lines()
        return
    tasks: dict[str, Any] = {}
    with _bars(screen) as progress:

        def report(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = progress.add_task(phase, total=total)
            progress.update(tasks[phase], completed=done, total=total)
            if done >= total:
                progress.remove_task(tasks.pop(phase))

        yield report


def _bars(screen: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=screen, transient=True)
