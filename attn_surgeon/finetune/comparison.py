"""Compare the training runs with and without grafts: difference, confidence interval and a one-sentence verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attn_surgeon.evaluate.paired_runs import describe_runs, grafts_verdict, score_interval
from attn_surgeon.finetune.loop import Trained
from attn_surgeon.tasks.base import Task
from attn_surgeon.tasks.statistics import better_and_worse

_ARMS = {"only_first": "only_grafts", "only_second": "only_control"}


@dataclass(frozen=True)
class SeedResult:
    """The networks trained with one seed; `openings` and `bypass_costs` are by graft, as in `graft_effects`."""

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
        """The metric of the network with grafts minus that of the control, or None without a control."""
        return None if self.control is None else self.grafts.score.metric - self.control.score.metric


def describe_seed(result: SeedResult, task: Task) -> dict[str, Any]:
    """Return the scores of one seed as plain values."""
    scores = {
        name: {task.metric.key: arm.score.metric, "loss": arm.score.loss, **arm.score.figures}
        for name, arm in result.arms.items()
    }
    return {"seed": result.seed, **scores, "difference": result.difference}


def compare_arms(results: Sequence[SeedResult], task: Task) -> dict[str, Any]:
    """Return the difference between both networks with its interval and verdict as plain data.

    For one run of each network, the result of the task's paired test is added. For several runs there is no test; each
    image counts once, with its mean difference over the runs.
    """
    pairs = [(result.grafts.score, result.control.score) for result in results if result.control is not None]
    grafts, control = zip(*pairs, strict=True)
    interval, images = score_interval(grafts, control), len(grafts[0].outcomes)
    if len(pairs) > 1:
        by_image = np.mean([np.subtract(ours.outcomes, theirs.outcomes) for ours, theirs in pairs], 0)
        details: dict[str, Any] = {"by_image": better_and_worse(by_image.tolist())}
    else:
        test = task.compare(grafts[0].outcomes, control[0].outcomes)
        details = {test.name: {_ARMS.get(name, name): value for name, value in test.values.items()}}
    bootstrap = grafts[0].resampled is not None
    difference = {**asdict(interval), "how": f"over {describe_runs(len(pairs), images, bootstrap=bootstrap)}"}
    sentence = grafts_verdict(interval, len(pairs), images, bootstrap=bootstrap)
    return {"difference": difference, "verdict": sentence, **details}
