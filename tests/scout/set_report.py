"""The arms of a transfer in tables: what each costs and reaches, and what scout's sets gain over it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks.trials import mean_and_deviation

from .arms import AND_NORMS, SET_ARMS
from .differences import difference, whole_seeds, written

SCOUTED = ("scout", "scout, more sites")
NORMS = f"head{AND_NORMS}"


def set_report(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the tables of a transfer as Markdown: arms with frozen norms and their rival, and arms with the norms."""
    there = [arm for arm in SET_ARMS if any(key.rpartition(" ")[0] == arm for key in lines)]
    beside = [arm for arm in there if arm.endswith(AND_NORMS)]
    alone = [arm for arm in there if arm not in beside or arm == NORMS]
    budget = max((line["budget"] for line in lines.values() if "budget" in line), default=0)
    text = [f"At most {budget:,} parameters.", "", _table(lines, alone, "")]
    if len(beside) > 1:
        text += ["", _table(lines, beside, AND_NORMS)]
    for key, line in lines.items():
        if key.startswith("scouted"):
            text += ["", f"{key}: {line['cpu_seconds']:.0f} s"]
        elif key == "trial":
            text += ["", line["verdict"]]
    return "\n".join(text)


def _table(lines: Mapping[str, Mapping[str, Any]], arms: Sequence[str], ending: str) -> str:
    """Return a table of arms; each is compared with scout's sets of the same seeds."""
    scouted = [f"{name}{ending}" for name in SCOUTED if f"{name}{ending}" in arms]
    text = [
        f"| arm | seeds | parameters | metric | {' | '.join(f'{own} over it' for own in scouted)} |",
        f"| --- | ---: | ---: | ---: |{' ---: |' * len(scouted)}",
    ]
    for arm in arms:
        seeds = whole_seeds(lines, [arm])
        own = [lines[f"{arm} {seed}"] for seed in seeds]
        over = [_over(lines, ours, arm) for ours in scouted]
        size = round(sum(line["parameters"] for line in own) / len(own))
        metrics = [100 * line["metric"] for line in own]
        metric = mean_and_deviation(metrics) if len(own) > 1 else f"{metrics[0]:.2f}"
        text.append(f"| {arm} | {len(seeds)} | {size:,} | {metric} | {' | '.join(over)} |")
    return "\n".join(text)


def _over(lines: Mapping[str, Mapping[str, Any]], ours: str, other: str) -> str:
    seeds = whole_seeds(lines, [ours, other])
    return "" if ours == other or not seeds else written(difference(lines, ours, other, seeds))
