"""Measure networks on corrupted images, and say whether what sets them apart helps there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn

from attn_surgeon.data import ImageData
from attn_surgeon.data.corruptions import KINDS, LEVELS, STRENGTHS
from attn_surgeon.evaluate.answers import Reading, examine
from attn_surgeon.evaluate.compare import Rivals
from attn_surgeon.evaluate.statistics import Interval, image_interval, verdict
from attn_surgeon.evaluate.views import Corruption, Views, pools_of
from attn_surgeon.progress import Progress

SEED = 0
TRIALS = [(kind, strength) for kind in KINDS for strength in STRENGTHS]
Over = Callable[[Sequence[float], float], Interval]  # of differences, none larger than the second number
MEAN = f"in the mean over {len(KINDS)} kinds and {len(STRENGTHS)} strengths"


@dataclass(frozen=True)
class Trial:
    """Hold, for one kind at one strength, how well each network does on every image (N,): right or not, or a share."""

    kind: str
    strength: int
    right: tuple[Tensor, ...]

    @property
    def level(self) -> float:
        """Give what the strength stands for."""
        return LEVELS[self.kind][self.strength - 1]

    @property
    def shares(self) -> tuple[float, ...]:
        """Give how well each network does in the mean."""
        return tuple(float(own.sum()) / len(own) for own in self.right)


@dataclass(frozen=True)
class Gain:
    """Hold what the first of two networks is ahead of the second on corrupted images.

    Intervals are over images, of which each counts with its mean over the corruptions. `beyond_clean` is how much
    more it is ahead there than on clean images.
    """

    kinds: dict[str, Interval]
    mean: Interval
    beyond_clean: Interval
    verdict: str
    verdict_beyond_clean: str


def robustness(
    models: Sequence[nn.Module],
    data: ImageData,
    reading: Reading,
    *,
    seed: int = SEED,
    progress: Progress | None = None,
) -> list[Trial]:
    """Score networks on the same corrupted images, each kind at each strength; `data` holds Views."""
    views = cast(Views, data.dataset)
    pools, made = pools_of(views), []
    for number, (kind, strength) in enumerate(TRIALS):
        step = None if progress is None else partial(one_of, progress, number, len(TRIALS))
        corrupted = Views(views.pictures, views.wanted, Corruption(kind, strength, seed), pools)
        answers = examine(models, ImageData(corrupted, data.class_names), reading, step)
        made.append(Trial(kind, strength, tuple(own.right for _, own in answers)))
    return made


def one_of(progress: Progress, number: int, jobs: int, done: int, total: int) -> None:
    """Count the images of several jobs together."""
    progress(number * total + done, jobs * total)


def means(trials: Sequence[Trial], network: int = 0) -> dict[str, float]:
    """Give a network's accuracy for each kind in the mean over its strengths, and over all as `mean`."""
    found = {kind: _mean([trial.shares[network] for trial in trials if trial.kind == kind]) for kind in KINDS}
    return found | {"mean": _mean(list(found.values()))}


def gain(trials: Sequence[Trial], clean: tuple[Tensor, ...], rivals: Rivals, interval: Over = image_interval) -> Gain:
    """Compare two networks over all corruptions, and with what they do on every clean image (N,)."""
    ahead = {kind: _ahead([trial.right for trial in trials if trial.kind == kind]) for kind in KINDS}
    everywhere = torch.stack(list(ahead.values())).mean(0)
    mean = interval(everywhere.tolist(), 1.0)
    beyond = interval((everywhere - _ahead([clean])).tolist(), 2.0)
    said = (
        verdict(mean, f"{rivals.cause} on corrupted images", f"{MEAN}, {rivals.scope}"),
        verdict(beyond, "in that difference from clean to corrupted images", MEAN),
    )
    return Gain({kind: interval(own.tolist(), 1.0) for kind, own in ahead.items()}, mean, beyond, *said)


def _ahead(rights: Sequence[tuple[Tensor, ...]]) -> Tensor:
    """Give for every image (N,) how much more often the first of two networks is right."""
    return torch.stack([first.double() - second.double() for first, second in rights]).mean(0)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
