"""Markdown tables of the study of `train_yolov4_tiny.py`: before any training, and after it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

METRICS = ("mAP", "mAP50")


def report(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """Return both tables, given what `right_after` and `compare` returned by variant."""
    return f"{_before_table(before)}\n\n{_after_table(after)}"


def _before_table(before: Mapping[str, Any]) -> str:
    columns = ["blocks", "outputs"]
    for metric in METRICS:
        columns += [f"{metric}, plain", "identity", "as published"]
    rows = []
    for name, found in before.items():
        row = [name, "identical" if found["identical"] else "changed"]
        for metric in METRICS:
            drawn = [draw[metric] for draw in found["published"]]
            row += [f"{found[start][metric]:.4f}" for start in ("plain", "identity")]
            row.append(f"{min(drawn):.4f} to {max(drawn):.4f}")
        rows.append(row)
    return _markdown(columns, rows)


def _after_table(after: Mapping[str, Any]) -> str:
    columns = ["variant", "parameters"]
    for metric in METRICS:
        columns += [f"{metric}, control", f"{metric}, grafts", "difference (95 % interval)"]
    rows = []
    for name, found in after.items():
        row = [name, f"{sum(graft['parameters'] for graft in found['grafts']):,}"]
        for metric in METRICS:
            row += _compared(found["metrics"][metric])
        rows.append(row)
    return _markdown(columns, rows)


def _compared(metric: Mapping[str, Any]) -> list[str]:
    ours, theirs = fmean(metric["grafts"]), fmean(metric["control"])
    interval = metric["interval"]
    bounds = f" ({interval['low']:+.4f} to {interval['high']:+.4f})" if interval else ""
    return [f"{theirs:.4f}", f"{ours:.4f}", f"{ours - theirs:+.4f}{bounds}"]


def _markdown(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
