"""What the runs of a fine-tune show together: differences, intervals, and one sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attn_surgeon.evaluate.paired_runs import score_interval
from attn_surgeon.finetune.loop import Trained
from attn_surgeon.tasks.base import Task
from attn_surgeon.tasks.statistics import Interval, better_and_worse, verdict

ONE_RUN = (
    "One training run of each does not show how much of that is due to the grafts, and how much to chance in training:"
    " repeat it with several seeds."
)
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
    """Return the difference between both networks with its interval, and a sentence; of one run of each, a test too.

    Over several runs there is no test beside the interval; an image counts once, with its mean difference.
    """
    pairs = [(result.grafts.score, result.control.score) for result in results if result.control is not None]
    grafts, control = zip(*pairs, strict=True)
    interval, images = score_interval(grafts, control), f"{len(grafts[0].outcomes):,} images"
    if len(pairs) > 1:
        basis, sentence = f"{len(pairs)} training runs of each, {images}", training_verdict
        apart = np.mean([np.subtract(ours.outcomes, theirs.outcomes) for ours, theirs in pairs], 0)
        further: dict[str, Any] = {"by_image": better_and_worse(apart.tolist())}
    else:
        basis, sentence = images, one_run_verdict
        test = task.compare(grafts[0].outcomes, control[0].outcomes)
        further = {test.name: {_ARMS.get(name, name): value for name, value in test.values.items()}}
    difference = {**asdict(interval), "how": f"over {basis}"}
    return {"difference": difference, "verdict": sentence(interval, basis), **further}


def training_verdict(interval: Interval, basis: str) -> str:
    """Return one sentence with what several training runs show of the grafts."""
    claim = "training with the grafts scores", "than training without them on images like these"
    return verdict(interval, claim, basis)


def one_run_verdict(interval: Interval, basis: str) -> str:
    """Return what is known of two trained networks, and that one training run of each does not show the cause."""
    claim = "this network with grafts scores", "than this control on images like these"
    return f"{verdict(interval, claim, basis)} {ONE_RUN}"
