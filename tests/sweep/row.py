"""One architecture's line: what became of every group of its sites, and what fell short."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from time import perf_counter
from types import ModuleType
from typing import Any

from attn_surgeon.errors import first_line
from attn_surgeon.surgery.sites.survey import survey

from . import from_timm, from_torchvision
from .groups import GroupRow, sweep_group, values_of

LIBRARIES: dict[str, ModuleType] = {"timm": from_timm, "torchvision": from_torchvision}
GROUPS = ("stages", "blocks", "head", "residual")


@dataclass(frozen=True)
class Settings:
    """What is swept: the groups, the block, and the most parameters a network is built with for real."""

    groups: Sequence[str] = GROUPS
    block: str = "se"
    largest: int = 400_000_000


@dataclass
class Row:
    """What became of one architecture; `error` says what stopped it, in which phase."""

    library: str
    name: str
    task: str
    family: str
    parameters: int = 0
    shape: list[list[int]] = field(default_factory=list)
    seconds: float = 0.0
    meta: bool = False
    groups: dict[str, GroupRow] = field(default_factory=dict)
    error: str = ""
    phase: str = ""
    skipped: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Write the row as plain data."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Row:
        """Read a row from plain data."""
        return cls(**{**data, "groups": {name: GroupRow(**group) for name, group in data["groups"].items()}})


def empty_row(library: str, name: str) -> Row:
    """Begin the row of an architecture."""
    networks = LIBRARIES[library]
    return Row(library, name, networks.task(name), networks.family(name), skipped=networks.out_of_scope(name) or "")


def sweep_one(library: str, name: str, settings: Settings, say: Callable[[str], None] = lambda phase: None) -> Row:
    """Build one architecture, operate on each group of its sites, and undo each; never raises."""
    row, started = empty_row(library, name), perf_counter()

    def enter(phase: str) -> None:
        row.phase = phase
        say(phase)

    try:
        if not row.skipped:
            _fill(row, settings, enter)
            row.phase = ""
    except Exception as error:
        row.error = f"{type(error).__name__}: {first_line(error)}"
    row.seconds = round(perf_counter() - started, 2)
    return row


def _fill(row: Row, settings: Settings, enter: Callable[[str], None]) -> None:
    enter("build")
    case = LIBRARIES[row.library].make_case(row.name, settings.largest)
    row.parameters, row.shape, row.meta = case.parameters, case.shape, case.meta
    enter("survey")
    found = survey(case.model, case.example)
    values = values_of(case.model)
    for group in settings.groups:
        enter(group)
        row.groups[group] = sweep_group(case, found, group, settings.block, values)


def shortfalls(row: Row) -> list[str]:
    """List why a row does not pass; none where it passes."""
    if row.error:
        return [f"{row.phase}: {row.error}"]
    found = [f"{name}: {text}" for name, group in row.groups.items() for text in group.shortfalls()]
    found += [f"{' and '.join(names)}: no graft" for names in _required(row) if not _grafted(row, names)]
    return found


def _required(row: Row) -> list[tuple[str, ...]]:
    """Say which groups must have grafts: stages or, where the last map is the only one, blocks; the head; residual
    branches where there are any."""
    wanted = [("stages", "blocks"), ("head",)]
    residual = row.groups.get("residual")
    wanted += [("residual",)] if residual is not None and residual.sites else []
    return [names for names in wanted if any(name in row.groups for name in names)]


def _grafted(row: Row, names: Sequence[str]) -> int:
    return sum(row.groups[name].grafted for name in names if name in row.groups)
