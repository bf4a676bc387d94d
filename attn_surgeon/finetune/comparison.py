"""What the runs of a fine-tune say together: differences, intervals, and one sentence that claims no more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from attn_surgeon.evaluate import statistics
from attn_surgeon.evaluate.statistics import Interval, exact_interval, mcnemar, share_interval, signed_ranks, t_interval
from attn_surgeon.finetune.loop import Trained
from attn_surgeon.tasks.base import Task

POOLED = "exact; an image counts once for each seed, as if seeds were independent"


@dataclass(frozen=True)
class Pair:
    """Hold what one seed gave: both networks, what closing each graft costs, and how far each has opened."""

    seed: int
    grafts: Trained
    closing: Mapping[str, float]
    opened: Mapping[str, float]
    control: Trained | None

    @property
    def difference(self) -> float | None:
        """Give how much more the network with grafts is worth."""
        return None if self.control is None else self.grafts.score.metric - self.control.score.metric


def describe_run(pair: Pair, task: Task) -> dict[str, Any]:
    """Describe one seed's scores."""
    arms = {"grafts": pair.grafts, "control": pair.control}
    scores = {
        name: {task.metric: arm.score.metric, "loss": arm.score.loss, **arm.score.figures}
        for name, arm in arms.items()
        if arm is not None
    }
    return {"seed": pair.seed, **scores, "difference": pair.difference}


def compare(pairs: Sequence[Pair], task: Task) -> dict[str, Any]:
    """Compare the two networks over all seeds."""
    outcomes = [
        (ours, theirs)
        for pair in pairs
        if pair.control is not None
        for ours, theirs in zip(pair.grafts.score.outcomes, pair.control.score.outcomes, strict=True)
    ]
    differences = [pair.difference for pair in pairs if pair.difference is not None]
    if len(pairs) > 1:
        interval, how = t_interval(differences), f"Student's t over {len(pairs)} seeds"
    elif task.counted:
        interval = exact_interval(outcomes.count((1.0, 0.0)), outcomes.count((0.0, 1.0)), len(outcomes))
        how = "McNemar's exact, over the validation images of one training run"
    else:
        interval = share_interval([ours - theirs for ours, theirs in outcomes])
        how = f"Student's t over the validation images of one training run, each with its own {task.title}"
    compared = {"difference": {**asdict(interval), "how": how}, "verdict": verdict(interval, len(pairs))}
    return compared | ({"mcnemar": _mcnemar(outcomes)} if task.counted else {"wilcoxon": _wilcoxon(pairs)})


def _mcnemar(outcomes: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Test the images that only one of the two gets right."""
    ours, theirs = outcomes.count((1.0, 0.0)), outcomes.count((0.0, 1.0))
    return {"only_grafts": ours, "only_control": theirs, "p": mcnemar(ours, theirs), "how": POOLED}


def _wilcoxon(pairs: Sequence[Pair]) -> dict[str, float]:
    """Test whether images tend to one side; an image counts once, with the mean over its seeds."""
    both = [(pair.grafts.score.outcomes, pair.control.score.outcomes) for pair in pairs if pair.control is not None]
    means = [
        math.fsum(ours[image] - theirs[image] for ours, theirs in both) / len(both) for image in range(len(both[0][0]))
    ]
    return signed_ranks(means)


def verdict(interval: Interval, seeds: int) -> str:
    """Say in one sentence what the runs show of the grafts."""
    over = f"over {seeds} seeds" if seeds > 1 else "for this one training run only, which says nothing of other seeds"
    return statistics.verdict(interval, "from the grafts on these images", over)
