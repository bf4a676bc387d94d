"""How often intervals claim a difference, and how often they contain the true one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from attn_surgeon.evaluate.paired_runs import runs_reach
from attn_surgeon.tasks.statistics import Floats

from . import before
from .draws import Setting, answers

Ends = tuple[Floats, Floats]


@dataclass(frozen=True)
class Rates:
    """Fractions of intervals that exclude zero (claims), and that contain the truth (cover)."""

    claims: float
    cover: float


def rates(intervals: Iterable[Ends], truth: float) -> Rates:
    """Return how often intervals exclude zero, and contain the truth."""
    low, high = (np.concatenate(ends) for ends in zip(*intervals, strict=True))
    slack = 1e-12  # of sums of fractions
    covered = (low <= truth + slack) & (truth - slack <= high)
    return Rates(float(((low > slack) | (high < -slack)).mean()), float(covered.mean()))


def after(first: Floats, second: Floats) -> Ends:
    """Return the interval over runs and images."""
    mean, reach = runs_reach(first, second)
    return mean - reach, mean + reach


def rates_of_runs(
    method: Callable[[Floats, Floats], Ends],
    setting: Setting,
    runs: int,
    images: int,
    repeats: int,
    effect: float = 0.0,
) -> Rates:
    """Return the rates of one method in one cell of the table."""
    drawn = answers(setting, runs, images, repeats, effect)
    return rates((method(first, second) for first, second in drawn), effect)


METHODS = {"before": before.over_seeds, "after": after}
