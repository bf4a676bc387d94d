"""The result of a comparison: both networks' metrics, their differences with intervals, and what each graft does."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
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
    smaller_is_better: bool = False

    @property
    def difference(self) -> float:
        """The mean of the network with grafts less that of the control."""
        return fmean(self.grafts) - fmean(self.control)

    @property
    def bypass_change(self) -> str:
        """What happens to the metric where a graft that helps is bypassed: it is lost or gained."""
        return "gained" if self.smaller_is_better else "lost"


@dataclass(frozen=True)
class GraftEffect:
    """One graft: what it costs, None where that was not measured, and what bypassing it alone costs, by metric.

    A cost is by how much a metric is worse without the graft, as a mean over the seeds.
    """

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
        lost = (f"{name} {item.bypass_change} if bypassed" for name, item in self.metrics.items())
        columns = ("graft", "parameters", "MACs", "changed", *lost)
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


def compare_metrics(
    before: Values, results: Sequence[ArmResult], smaller_is_better: Collection[str] = ()
) -> dict[str, MetricComparison]:
    """Return the comparison of each metric; raise TrainingError where evaluations returned different ones."""
    for item in results:
        require_same_metrics(before, item)
    ours, theirs = ([item.metrics for item in results if item.arm == arm] for arm in ("grafts", "control"))
    return {
        name: _compare(
            before[name],
            [metrics[name] for metrics in ours],
            [metrics[name] for metrics in theirs],
            smaller_is_better=name in smaller_is_better,
        )
        for name in before
    }


def require_same_metrics(before: Values, result: ArmResult) -> None:
    """Raise TrainingError where an evaluation returned other metrics than before training, or of other images."""
    where, hint = f"{result.arm}, seed {result.seed}", "return the same metrics each time"
    if set(result.metrics) != set(before):
        what = f"evaluate returned {', '.join(result.metrics)} after training, and {', '.join(before)} before"
        raise TrainingError(what, where, hint)
    for name, values in result.metrics.items():
        if len(values) != len(before[name]):
            what = (
                f"evaluate returned {len(values):,} values of {name} after training, and {len(before[name]):,} before"
            )
            raise TrainingError(what, where, "return a value for each validation image each time")


def _compare(
    before: Sequence[float],
    ours: Sequence[Sequence[float]],
    theirs: Sequence[Sequence[float]],
    *,
    smaller_is_better: bool,
) -> MetricComparison:
    grafts, control = (tuple(map(fmean, arm)) for arm in (ours, theirs))
    images = len(ours[0]) if len(ours[0]) > 1 else 0
    if images:
        interval: Interval | None = values_interval(ours, theirs)
    else:
        interval = welch_interval(grafts, control) if len(ours) > 1 else None
    difference = Interval(fmean(grafts) - fmean(control), -math.inf, math.inf) if interval is None else interval
    percent = not smaller_is_better and all(0 <= value <= 1 for value in (*grafts, *control))
    text = grafts_verdict(difference, len(ours), images, percent=percent, smaller_is_better=smaller_is_better)
    basis = describe_runs(len(ours), images)
    return MetricComparison(fmean(before), grafts, control, interval, basis, text, smaller_is_better)
