"""The summary of a sweep, in Markdown: what passes by library and task, and all that does not."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from itertools import groupby

import timm
import torch
import torchvision

from .exclusions import EXCLUSIONS
from .row import Row, shortfalls

_FIRST_HEADS = ("library", "task", "architectures", "pass")
_LAST_HEADS = ("fx / wrapped", "not identical", "excluded", "minutes")


def draw_table(rows: Iterable[Row]) -> str:
    """Draw the table of a sweep's rows, its versions and what does not pass."""
    listed = sorted(rows, key=lambda row: (row.library, row.task, row.name))
    groups = list(dict.fromkeys(group for row in listed for group in row.groups))
    heads = [*_FIRST_HEADS, *groups, *_LAST_HEADS]
    lines = [_line(heads), _line(["---", "---", *["---:"] * (len(heads) - 2)])]
    for _, part in groupby(listed, key=lambda row: (row.library, row.task)):
        lines.append(_line(_summary(list(part), groups)))
    if len(lines) > 3:
        lines.append(_line(["**all**", "", *_summary(listed, groups)[2:]]))
    return "\n".join([*lines, "", _versions(), "", *_remarks(listed)]).rstrip()


def excluded(row: Row) -> str:
    """Say why a row is not held to the verdict; empty where it is."""
    return row.skipped or EXCLUSIONS.get(f"{row.library}/{row.name}", "")


def _summary(rows: Sequence[Row], groups: Sequence[str]) -> list[str]:
    held = [row for row in rows if not excluded(row)]
    passing = [row for row in held if not shortfalls(row)]
    return [
        rows[0].library,
        rows[0].task,
        str(len(rows)),
        f"{len(passing)} ({100 * len(passing) / len(held):.1f} %)" if held else "–",
        *(_reached(held, group) for group in groups),
        f"{_how(held, 'fx'):,} / {_how(held, 'wrapped'):,}",
        str(sum(not _identical(row) for row in held)),
        str(len(rows) - len(held)),
        f"{sum(row.seconds for row in rows) / 60:.1f}",
    ]


def _reached(rows: Sequence[Row], group: str) -> str:
    """Count the architectures with a graft in the group, of those that have such sites."""
    there = [row.groups[group] for row in rows if group in row.groups and row.groups[group].sites]
    return f"{sum(found.grafted > 0 for found in there)} of {len(there)}"


def _how(rows: Sequence[Row], how: str) -> int:
    return sum(group.how.get(how, 0) for row in rows for group in row.groups.values())


def _identical(row: Row) -> bool:
    verdicts = [(group.identity_eval, group.identity_train) for group in row.groups.values() if group.grafted]
    return all(verdict in (True, "meta", None) for pair in verdicts for verdict in pair)


def _versions() -> str:
    libraries = f"torch {torch.__version__}, timm {timm.__version__}, torchvision {torchvision.__version__}"
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}, {libraries}, random weights, CPU."


def _remarks(rows: Sequence[Row]) -> list[str]:
    meta = sum(row.meta for row in rows)
    lines = (
        [f"{meta} were too large to run: planned and operated on the meta device, without values.", ""] if meta else []
    )
    for reason, part in groupby(sorted(rows, key=excluded), key=excluded):
        if reason:
            names = [f"`{row.name}`" for row in part]
            lines += [f"Excluded ({reason}): {', '.join(names)}.", ""]
    failing = [(row, found) for row in rows if not excluded(row) and (found := shortfalls(row))]
    lines += ["Not passing:", ""] if failing else ["All others pass."]
    return lines + [f"- `{row.library}/{row.name}`: {'; '.join(found)}" for row, found in failing]


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
