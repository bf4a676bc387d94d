"""Measure robustness: score networks on corrupted images, and compare two of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.data.corruptions import CORRUPTION_KINDS, LEVELS, STRENGTHS
from attn_surgeon.data.images import ImageData
from attn_surgeon.evaluate.compare import ComparedNames
from attn_surgeon.progress import Progress, no_progress, of_jobs
from attn_surgeon.tasks.base import DEFAULT_OPTIONS, ScoreOptions, Task
from attn_surgeon.tasks.statistics import Interval, image_interval, verdict

CORRUPTION_SEED = 0
TRIALS = [(kind, strength) for kind in CORRUPTION_KINDS for strength in STRENGTHS]
_OVER_ALL = f"mean over {len(CORRUPTION_KINDS)} kinds and {len(STRENGTHS)} strengths"


@dataclass(frozen=True)
class Trial:
    """The outcomes (N,) of each network on images corrupted in one way at one strength."""

    kind: str
    strength: int
    outcomes: tuple[Tensor, ...]

    @property
    def level(self) -> float:
        """The parameter of the corruption at this strength."""
        return LEVELS[self.kind][self.strength - 1]

    @property
    def means(self) -> tuple[float, ...]:
        """The mean outcome of each network."""
        return tuple(float(own.sum()) / len(own) for own in self.outcomes)


@dataclass(frozen=True)
class RobustGain:
    """The advantage of the first of two networks over the second on corrupted images.

    Intervals are over images, each of which counts with its mean over the corruptions. `beyond_clean` is the advantage
    there less that on clean images.
    """

    kinds: dict[str, Interval]
    mean: Interval
    beyond_clean: Interval
    verdict: str
    verdict_beyond_clean: str


def run_trials(
    task: Task,
    models: Sequence[nn.Module],
    data: Sequence[ImageData],
    *,
    seed: int = CORRUPTION_SEED,
    options: ScoreOptions = DEFAULT_OPTIONS,
    progress: Progress = no_progress,
) -> list[Trial]:
    """Score networks on the same corrupted images, each kind at each strength.

    Args:
        task: the task.
        models: the networks.
        data: the images, as each network takes them.
        seed: seeds the corruptions.
        options: how images are scored.
        progress: is called with the images done and their total, over all networks and trials.
    """
    corruptions = [task.corruptions(own, seed) for own in data]
    trials = []
    for number, (kind, strength) in enumerate(TRIALS):
        images = [corrupted(kind, strength) for corrupted in corruptions]
        trial_options = replace(options, with_loss=False)
        scores = task.score_each(models, images, trial_options, of_jobs(progress, number, len(TRIALS)))
        outcomes = tuple(torch.tensor(score.outcomes, dtype=torch.float64) for score in scores)
        trials.append(Trial(kind, strength, outcomes))
    return trials


def means(trials: Sequence[Trial], network: int = 0) -> dict[str, float]:
    """Return a network's mean outcome for each kind over its strengths, and over all as `mean`."""
    found = {kind: _mean([trial.means[network] for trial in trials if trial.kind == kind]) for kind in CORRUPTION_KINDS}
    return found | {"mean": _mean(list(found.values()))}


def robust_gain(trials: Sequence[Trial], clean: Sequence[Tensor], names: ComparedNames) -> RobustGain:
    """Compare two networks over all corruptions, and with their outcomes (N,) on the clean images.

    Args:
        trials: the outcomes on corrupted images.
        clean: the outcomes on clean images.
        names: what was compared.
    """
    ahead = {kind: _difference([trial.outcomes for trial in trials if trial.kind == kind]) for kind in CORRUPTION_KINDS}
    everywhere = torch.stack(list(ahead.values())).mean(0)
    mean = image_interval(everywhere.tolist())
    beyond = image_interval((everywhere - _difference([clean])).tolist(), bound=2.0)
    basis = f"{len(everywhere):,} images, {_OVER_ALL}"
    before, after = names.claim
    sentences = (
        f"{verdict(mean, (before, f'{after} on corrupted images'), basis)} {names.scope}",
        verdict(beyond, names.cost, basis, ("less", "more")),
    )
    return RobustGain({kind: image_interval(own.tolist()) for kind, own in ahead.items()}, mean, beyond, *sentences)


def describe_trials(
    task: Task, trials: Sequence[Trial], clean: Sequence[Tensor], names: ComparedNames | None
) -> dict[str, Any]:
    """Return the results on corrupted images as plain values."""
    document: dict[str, Any] = {"trials": [_describe(task, trial) for trial in trials], "means": means(trials)}
    if names is not None:
        gain = robust_gain(trials, clean, names)
        document |= {"compare_means": means(trials, 1), "gain": asdict(gain)}
    return document


def _describe(task: Task, trial: Trial) -> dict[str, Any]:
    key = task.image_metric.key
    document = {"kind": trial.kind, "strength": trial.strength, "level": trial.level, key: trial.means[0]}
    if len(trial.outcomes) == 1:
        return document
    first, second = (own.tolist() for own in trial.outcomes)
    difference = image_interval([a - b for a, b in zip(first, second, strict=True)])
    values = task.compare(first, second).values
    return document | {f"compare_{key}": trial.means[1], "difference": asdict(difference), **values}


def _difference(outcomes: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return for every image (N,) the mean difference between the first and the second of two networks."""
    return torch.stack([first.double() - second.double() for first, second in outcomes]).mean(0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
