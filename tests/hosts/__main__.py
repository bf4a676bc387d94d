"""Judge what other tools do to operated networks, and draw the matrix of verdicts.

python -m tests.hosts
python -m tests.hosts --only "ultralytics*" --only "*compile*"
python -m tests.hosts --table > hosts.md
"""

from __future__ import annotations

import argparse
import io
import logging
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from fnmatch import fnmatch
from pathlib import Path

import torch

import attn_surgeon

from .host import Host
from .messages import brief
from .registry import HOSTS
from .table import SIDES, Row, counts, draw_notes, draw_table
from .verdict import Verdict, judge


def main(arguments: Sequence[str] | None = None) -> int:
    """Judge the chosen hosts; the exit status is 1 where grafts are lost or a tool breaks on them."""
    given = _parser().parse_args(arguments)
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    chosen = [host for host in HOSTS if _named(host, given.only) and not (given.quick and host.slow)]
    print(f"attn_surgeon of {Path(attn_surgeon.__file__).parent}", file=sys.stderr)
    rows = [_judged(host) for host in chosen if not _skipped(host)]
    print(draw_table(rows) if given.table else f"{draw_notes(rows)}\n{counts(rows)}")
    return int(any(not verdict.good for _, found in rows for verdict in found.values()))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tests.hosts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", action="append", metavar="GLOB", help="hosts by name, or a group of them")
    parser.add_argument("--quick", action="store_true", help="leave the slow ones out")
    parser.add_argument("--table", action="store_true", help="draw the matrix in Markdown")
    return parser


def _named(host: Host, globs: Sequence[str] | None) -> bool:
    return any(fnmatch(host.name, glob) or host.group == glob for glob in globs or ["*"])


def _skipped(host: Host) -> bool:
    if host.missing:
        print(f"{host.name}: skipped, not installed: {', '.join(host.missing)}", file=sys.stderr)
    return bool(host.missing)


def _judged(host: Host) -> Row:
    started = time.monotonic()
    with redirect_stdout(io.StringIO()):
        found = {side: _verdict(host, side) for side in SIDES}
    said = " | ".join(str(found[side]) for side in SIDES)
    print(f"{host.name} {time.monotonic() - started:.1f} s: {said}", file=sys.stderr, flush=True)
    return host, found


def _verdict(host: Host, side: str) -> Verdict:
    try:
        return judge(host, side)
    except Exception as error:
        return Verdict("BROKE", f"the cell itself: {brief(error)}")


if __name__ == "__main__":
    sys.exit(main())
