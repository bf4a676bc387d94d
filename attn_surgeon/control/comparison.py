"""The result of a comparison: both networks' metrics, their differences with intervals, and what each graft does."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from attn_surgeon.control.arms import ArmResult
from attn_surgeon.control.metrics import Values
from attn_surgeon.errors import TrainingError
from attn_surgeon.evaluate.paired_runs import describe_runs, grafts_verdict, values_interval, welch_interval
from attn_surgeon.tables import Table
from attn_surgeon.tasks.statistics import Interval


@dataclass(frozen=True)
class MetricComparison:
    """One metric over all trainings: its value before, with grafts and in the control by seed, and the difference.

    The interval is None for one training whose evaluation returned one number: nothing is known of its chance then.
    """

    before: float
    grafts: tuple[float, ...]
    control: tuple[float, ...]
    interval: Interval | None
    basis: str
    verdict: str

    @property
    def difference(self) -> float:
        """The mean of the network with grafts less that of the control."""
        return fmean(self.grafts) - fmean(self.control)


@dataclass(frozen=True)
class GraftEffect:
    """One graft: what it costs, None where that was not measured, and what bypassing it alone costs, by metric."""

    place: str
    parameters: int
    macs: int | None
    bypass_costs: Mapping[str, float]
    changed: bool


@dataclass(frozen=True)
class Comparison:
    """A network with grafts beside its control, both trained in the same loop with the same seeds.

    Args:
        folder: where the results are.
        seeds: the seeds.
        metrics: the comparison of each metric.
        grafts: what each graft costs and does.
        latency_ms: the median latency of the example with grafts and without, where it was measured.
    """

    folder: str
    seeds: tuple[int, ...]
    metrics: Mapping[str, MetricComparison]
    grafts: tuple[GraftEffect, ...]
    latency_ms: tuple[float, float] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as plain data."""
        return asdict(self)

    @property
    def tables(self) -> list[Table]:
        """The tables that are printed: the metrics by seed, and the grafts."""
        return [self._metrics_table(), *([self._grafts_table()] if self.grafts else [])]

    def __str__(self) -> str:
        verdicts = "\n".join(f"{name}: {item.verdict}" for name, item in self.metrics.items())
        return "\n\n".join([*(str(table) for table in self.tables), verdicts])

    def _repr_html_(self) -> str:
        verdicts = "".join(f"<p>{name}: {item.verdict}</p>" for name, item in self.metrics.items())
        return "".join(table.html() for table in self.tables) + verdicts

    def _metrics_table(self) -> Table:
        rows = []
        for name, item in self.metrics.items():
            for seed, ours, theirs in zip(self.seeds, item.grafts, item.control, strict=True):
                rows.append((name, str(seed), f"{ours:.4f}", f"{theirs:.4f}", f"{ours - theirs:+.4f}"))
        columns = ("metric", "seed", "grafts", "control", "difference")
        return Table("", columns, tuple(rows), columns[1:])

    def _grafts_table(self) -> Table:
        names = list(self.metrics)
        columns = ("graft", "parameters", "MACs", "changed", *(f"{name} lost if bypassed" for name in names))
        rows = [
            (
                item.place,
                f"{item.parameters:,}",
                "" if item.macs is None else f"{item.macs:,}",
                "yes" if item.changed else "no",
                *(f"{item.bypass_costs[name]:+.4f}" if name in item.bypass_costs else "" for name in names),
            )
            for item in self.grafts
        ]
        return Table("", columns, tuple(rows), (*columns[1:3], *columns[4:])).without_empty_columns()


def compare_metrics(before: Values, results: Sequence[ArmResult]) -> dict[str, MetricComparison]:
    """Return the comparison of each metric; raise TrainingError where evaluations returned different ones."""
    ours, theirs = ([item for item in results if item.arm == arm] for arm in ("grafts", "control"))
    names = list(before)
    for item in results:
        if set(item.metrics) != set(names):
            what = f"evaluate returned {', '.join(item.metrics)} after training, and {', '.join(names)} before"
            raise TrainingError(what, f"{item.arm}, seed {item.seed}", "return the same metrics each time")
    return {
        name: _compare(before[name], *([item.metrics[name] for item in arm] for arm in (ours, theirs)))
        for name in names
    }


def _compare(
    before: Sequence[float], ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]
) -> MetricComparison:
    grafts, control = (tuple(map(fmean, arm)) for arm in (ours, theirs))
    images = len(ours[0]) if len(ours[0]) > 1 else 0
    if images:
        interval: Interval | None = values_interval(ours, theirs)
    else:
        interval = welch_interval(grafts, control) if len(ours) > 1 else None
    difference = Interval(fmean(grafts) - fmean(control), -math.inf, math.inf) if interval is None else interval
    percent = all(0 <= value <= 1 for value in (*grafts, *control))
    text = grafts_verdict(difference, len(ours), images, percent=percent)
    return MetricComparison(fmean(before), grafts, control, interval, describe_runs(len(ours), images), text)
