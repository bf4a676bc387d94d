"""What the runs of a fine-tune show together: differences, intervals, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attn_surgeon.finetune.loop import Trained
from attn_surgeon.tasks.base import Task
from attn_surgeon.tasks.statistics import Interval, t_interval, verdict

_ARMS = {"only_first": "only_grafts", "only_second": "only_control"}


@dataclass(frozen=True)
class SeedResult:
    """The networks trained with one seed, what bypassing each graft costs, and how far each has opened."""

    seed: int
    grafts: Trained
    bypass_costs: Mapping[str, float]
    openings: Mapping[str, float]
    control: Trained | None

    @property
    def arms(self) -> dict[str, Trained]:
        """The trained networks by name."""
        return {"grafts": self.grafts} | ({} if self.control is None else {"control": self.control})

    @property
    def difference(self) -> float | None:
        """The metric of the network with grafts less that of the control."""
        return None if self.control is None else self.grafts.score.metric - self.control.score.metric


def describe_seed(result: SeedResult, task: Task) -> dict[str, Any]:
    """Return the scores of one seed as plain values."""
    scores = {
        name: {task.metric.key: arm.score.metric, "loss": arm.score.loss, **arm.score.figures}
        for name, arm in result.arms.items()
    }
    return {"seed": result.seed, **scores, "difference": result.difference}


def compare_arms(results: Sequence[SeedResult], task: Task) -> dict[str, Any]:
    """Return the difference between both networks over all seeds with its interval, the paired test, and a sentence."""
    runs = [
        (result.grafts.score.outcomes, result.control.score.outcomes)
        for result in results
        if result.control is not None
    ]
    test = task.compare(runs)
    if len(results) > 1:
        interval = t_interval([result.difference for result in results if result.difference is not None])
        how = f"Student's t over {len(results)} seeds"
    else:
        interval, how = test.difference, f"{test.how}, of one training run"
    values = {_ARMS.get(name, name): value for name, value in test.values.items()}
    if len(results) > 1:
        values["how"] = test.pooling
    return {
        "difference": {**asdict(interval), "how": how},
        "verdict": training_verdict(interval, len(results)),
        test.name: values,
    }


def training_verdict(interval: Interval, seeds: int) -> str:
    """Return one sentence with what the runs show of the grafts."""
    over = f"over {seeds} seeds" if seeds > 1 else "for this one training run only, not for other seeds"
    return verdict(interval, "from the grafts on these images", over)
