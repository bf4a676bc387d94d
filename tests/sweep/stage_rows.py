"""One architecture's stages beside timm's own features: what each names, where they disagree, and the table of all."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from .stage_verdicts import OPEN, Level, verdict


@dataclass
class StageRow:
    """The features of timm and the members of `stages`, from the highest resolution to the lowest."""

    name: str
    family: str
    theirs: list[Level] = field(default_factory=list)
    ours: list[Level] = field(default_factory=list)
    meta: bool = True
    error: str = ""
    skipped: str = ""
    seconds: float = 0.0

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> StageRow:
        """Read a row from plain data."""
        levels = {side: [(stride, channels, name) for stride, channels, name in data[side]] for side in _SIDES}
        return cls(**{**data, **levels})

    def to_dict(self) -> dict[str, Any]:
        """Write the row as plain data."""
        return asdict(self)

    @property
    def disagreements(self) -> list[str]:
        """List the strides that only one names, and those where the channels differ."""
        theirs, ours = last_by_stride(self.theirs), last_by_stride(self.ours)
        found = [
            f"{stride}: {_told(theirs.get(stride))} | {_told(ours.get(stride))}"
            for stride in sorted({*theirs, *ours})
            if _channels(theirs.get(stride)) != _channels(ours.get(stride))
        ]
        return [] if self.error or self.skipped else found

    @property
    def verdicts(self) -> list[str]:
        """Say of each disagreement why it is one."""
        theirs, ours = last_by_stride(self.theirs), last_by_stride(self.ours)
        strides = [int(text.partition(":")[0]) for text in self.disagreements]
        return [verdict(self.family, self.name, theirs.get(s), ours.get(s), self.theirs) for s in strides]

    @property
    def open(self) -> bool:
        """Say whether a disagreement has no verdict, or nothing could be compared."""
        return bool(self.error) or OPEN in self.verdicts


_SIDES = ("theirs", "ours")


def last_by_stride(levels: Iterable[Level]) -> dict[int, Level]:
    """Keep the last level at each stride."""
    return {level[0]: level for level in levels}


def _told(level: Level | None) -> str:
    return "–" if level is None else f"{level[2]} ({level[1]})"


def _channels(level: Level | None) -> int | None:
    return None if level is None else level[1]


def read_rows(path: Path) -> dict[str, StageRow]:
    """Read the last row of each architecture; a line that was cut off is left out."""
    rows: dict[str, StageRow] = {}
    for line in path.read_text().splitlines() if path.exists() else ():
        try:
            row = StageRow.from_dict(json.loads(line))
        except ValueError:
            continue
        rows[row.name] = row
    return rows


def draw(rows: Sequence[StageRow]) -> str:
    """Count agreements and disagreements by their verdicts, and list every disagreement."""
    compared = [row for row in rows if not row.error and not row.skipped]
    apart = [row for row in compared if row.disagreements]
    counts = Counter(reason for row in apart for reason in set(row.verdicts))
    lines = [
        f"{len(rows)} architectures: {len(compared)} compared, {len(compared) - len(apart)} agree, "
        f"{len(apart)} disagree, {sum(bool(row.error) for row in rows)} failed.",
        "",
        *(f"- {count} {reason}" for reason, count in counts.most_common()),
        "",
        *(f"- skipped ({reason}): {len(list(part))}" for reason, part in _by(rows, "skipped") if reason),
        *(f"- `{row.name}`: {row.error}" for row in rows if row.error),
    ]
    for row in sorted(apart, key=lambda row: (row.family, row.name)):
        for text, reason in zip(row.disagreements, row.verdicts, strict=True):
            lines.append(f"- `{row.family}/{row.name}` stride {text}: {reason}")
    return "\n".join(lines)


def _by(rows: Sequence[StageRow], key: str) -> Iterable[tuple[str, Iterable[StageRow]]]:
    return groupby(sorted(rows, key=lambda row: str(getattr(row, key))), key=lambda row: str(getattr(row, key)))
