"""The matrix in Markdown: a row for each host, a column for each placement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version

from .host import Host
from .verdict import Verdict

SIDES = ("output", "inside", "before")
_PACKAGES = (
    "torch",
    "timm",
    "torchvision",
    "ultralytics",
    "lightning",
    "peft",
    "torchao",
    "accelerate",
    "transformers",
)
Row = tuple[Host, Mapping[str, Verdict]]


def draw_table(rows: Iterable[Row]) -> str:
    """Draw the table, the notes of what is not simply kept, and the versions."""
    listed = list(rows)
    lines = ["| tool | after a module | inside a forward | before a module |", "| --- | --- | --- | --- |"]
    lines += [_line([host.name, *(found[side].kind for side in SIDES)]) for host, found in listed]
    notes = [_note(*row) for row in listed if any(verdict.note for verdict in row[1].values())]
    return "\n".join([*lines, "", f"{counts(listed)}. {_versions()}, CPU.", "", *notes])


def counts(rows: Iterable[Row]) -> str:
    """Count the verdicts."""
    kinds = Counter(verdict.kind for _, found in rows for verdict in found.values())
    return f"{sum(kinds.values())} cells: " + ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())


def _note(host: Host, found: Mapping[str, Verdict]) -> str:
    said = {side: f"{verdict.kind}, {verdict.note}" for side, verdict in found.items() if verdict.note}
    if len(set(said.values())) == 1 and len(said) == len(SIDES):
        return f"- {host.name}: {next(iter(said.values()))}"
    return f"- {host.name}: " + "; ".join(f"{side}: {note}" for side, note in said.items())


def _versions() -> str:
    return ", ".join(f"{name} {found}" for name in _PACKAGES if (found := _version(name)))


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"
