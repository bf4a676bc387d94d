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
    text = [_table(lines, alone, ""), "", _table(lines, beside, AND_NORMS)]
    for key, line in lines.items():
        if key.startswith("scouted"):
            text += ["", f"{key}: {line['cpu_seconds']:.0f} s"]
        elif key == "trial":
            text += ["", line["verdict"]]
    return "\n".join(text)


def _table(lines: Mapping[str, Mapping[str, Any]], arms: Sequence[str], ending: str) -> str:
    seeds = whole_seeds(lines, arms)
    if not seeds or not arms:
        return "no seed is whole"
    scouted = [f"{name}{ending}" for name in SCOUTED if f"{name}{ending}" in arms]
    text = [
        f"{len(seeds)} seeds, at most {lines[f'{arms[0]} {seeds[0]}']['budget']:,} parameters",
        "",
        f"| arm | parameters | metric | {' | '.join(f'{own} over it' for own in scouted)} | seconds |",
        f"| --- | ---: | ---: |{' ---: |' * len(scouted)} ---: |",
    ]
    for arm in arms:
        own = [lines[f"{arm} {seed}"] for seed in seeds]
        over = [written(difference(lines, ours, arm, seeds)) if ours != arm else "" for ours in scouted]
        size, seconds = (round(sum(line[key] for line in own) / len(own)) for key in ("parameters", "training"))
        metrics = [100 * line["metric"] for line in own]
        metric = mean_and_deviation(metrics) if len(own) > 1 else f"{metrics[0]:.2f}"
        text.append(f"| {arm} | {size:,} | {metric} | {' | '.join(over)} | {seconds:,} |")
    return "\n".join(text)
