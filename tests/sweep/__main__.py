"""Sweep timm's or torchvision's architectures, or draw the table of what was swept.

    python -m tests.sweep timm --shard 1/2
    python -m tests.sweep torchvision --at stages --only "resnet*"
    python -m tests.sweep timm torchvision --table

Rows are appended to a file of JSON lines. What is there already is not swept again, so a sweep that was cut off goes
on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from fnmatch import fnmatch
from pathlib import Path

from .row import GROUPS, LIBRARIES, Row, Settings, shortfalls
from .table import draw_table
from .workers import Workers, keep_memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Sweep or draw the table; the exit status is 1 where something does not pass."""
    given = _parser().parse_args(arguments)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if not given.table:
        _sweep(given)
    rows = [row for row in read_rows(given.out).values() if row.library in given.libraries]
    if given.table:
        print(draw_table(rows))
    return int(any(shortfalls(row) for row in rows if not row.skipped))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tests.sweep", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("libraries", nargs="+", choices=LIBRARIES, help="whose architectures")
    parser.add_argument("--shard", type=_shard, default=(1, 1), metavar="I/N", help="the I-th of N parts")
    parser.add_argument("--at", nargs="+", default=GROUPS, metavar="GROUP", help="groups of sites")
    parser.add_argument("--block", default="se", help="the block to insert")
    parser.add_argument("--only", default="*", metavar="GLOB", help="names to sweep")
    parser.add_argument("--largest", type=int, default=Settings.largest, help="most parameters to run with values")
    parser.add_argument("--limit", type=float, default=120.0, help="seconds for one architecture")
    parser.add_argument("--again", choices=("failed",), help="sweep again what did not pass")
    parser.add_argument("--out", type=Path, default=Path("runs/sweep.jsonl"), help="the file of rows")
    parser.add_argument("--table", action="store_true", help="draw the table of the rows, and sweep nothing")
    return parser


def _shard(text: str) -> tuple[int, int]:
    part, whole = map(int, text.split("/"))
    if not 1 <= part <= whole:
        raise argparse.ArgumentTypeError("the part is between 1 and the number of parts")
    return part, whole


def read_rows(path: Path) -> dict[tuple[str, str], Row]:
    """Read the last row of each architecture; a line that was cut off is left out."""
    rows: dict[tuple[str, str], Row] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = Row.from_dict(json.loads(line))
        except ValueError:
            continue
        rows[row.library, row.name] = row
    return rows


def _sweep(given: argparse.Namespace) -> None:
    keep_memory()
    todo = list(_todo(given))
    with Workers(Settings(tuple(given.at), given.block, given.largest), given.limit) as workers:
        for count, (library, name) in enumerate(todo, 1):
            row = workers.row(library, name)
            with given.out.open("a") as file:
                file.write(json.dumps(row.to_dict()) + "\n")
            said = row.skipped or "; ".join(shortfalls(row)[:3]) or "pass"
            print(f"{count}/{len(todo)} {library}/{name} {row.seconds} s: {said}", file=sys.stderr, flush=True)


def _todo(given: argparse.Namespace) -> Iterator[tuple[str, str]]:
    part, whole = given.shard
    there = read_rows(given.out)
    for library in given.libraries:
        names = [name for name in LIBRARIES[library].names() if fnmatch(name, given.only)]
        for name in names[part - 1 :: whole]:
            row = there.get((library, name))
            if row is None or (given.again and not row.skipped and shortfalls(row)):
                yield library, name


if __name__ == "__main__":
    sys.exit(main())
