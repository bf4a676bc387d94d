"""The arms of a transfer in a table: what each costs and reaches, and what scout's sets gain over it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.benchmarks.trials import mean_and_deviation

from .arms import SET_ARMS
from .differences import difference, whole_seeds, written

SCOUTED = ("scout", "scout, more sites")


def set_report(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the table of a transfer as Markdown, of the seeds of which the file has all arms."""
    arms = [arm for arm in SET_ARMS if any(key.rpartition(" ")[0] == arm for key in lines)]
    seeds = whole_seeds(lines, arms)
    if not seeds:
        return "no seed is whole"
    scouted = [arm for arm in SCOUTED if arm in arms]
    first = seeds[0]
    text = [
        f"{len(seeds)} seeds, at most {lines[f'head {first}']['budget']:,} parameters",
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
    for key, line in lines.items():
        if key.startswith("scouted"):
            text += ["", f"{key}, in {line['cpu_seconds']:.0f} s: {line['trial']['verdict'] if line['trial'] else ''}"]
    return "\n".join(text)
