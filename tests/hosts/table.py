"""The matrix in Markdown: a row for each host that does not keep all grafts, a column for each placement."""

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
    """Draw a row for each tool that does not keep all grafts, name the others, and count."""
    listed = list(rows)
    kept = [host.name for host, found in listed if all(verdict.kind == "kept" for verdict in found.values())]
    lines = ["| tool | after a module | inside a forward | before a module |", "| --- | --- | --- | --- |"]
    lines += [_line([host.name, *(found[s].kind for s in SIDES)]) for host, found in listed if host.name not in kept]
    named = f"Kept at all three: {'; '.join(kept)}." if kept else "None is kept at all three."
    return "\n".join([*lines, "", named, "", f"{counts(listed)}. {_versions()}, CPU."])


def draw_notes(rows: Iterable[Row]) -> str:
    """List what was said of each tool, where something was."""
    return "\n".join(_note(*row) for row in rows if any(verdict.note for verdict in row[1].values()))


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
