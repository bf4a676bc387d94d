"""Compare two networks on the same images: confidence intervals of a difference, paired tests, and the conclusion."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CONFIDENCE = 0.95
ROUNDING = 1e-9  # relative difference below which values are equal up to floating-point errors
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % confidence interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """A paired test of two networks: its key in JSON, and its p-value and counts."""

    name: str
    values: dict[str, Any]


def compare_correctness(first: Sequence[float], second: Sequence[float]) -> PairedTest:
    """Compare outcomes that are 1 (correct) or 0 by McNemar's exact test.

    >>> compare_correctness([1, 1, 0, 1], [1, 0, 0, 0]).values
    {'only_first': 2, 'only_second': 0, 'p': 0.5}
    """
    pairs = list(zip(first, second, strict=True))
    counts = pairs.count((1, 0)), pairs.count((0, 1))
    return PairedTest("mcnemar", {"only_first": counts[0], "only_second": counts[1], "p": mcnemar(*counts)})


def compare_ranks(first: Sequence[float], second: Sequence[float]) -> PairedTest:
    """Compare outcomes on any scale by the signed-rank test (Wilcoxon, 1945).

    >>> compare_ranks([0.9, 0.8, 0.7, 0.6], [0.5, 0.7, 0.7, 0.4]).values
    {'better': 3, 'worse': 0, 'p': 0.25}
    """
    differences = [a - b for a, b in zip(first, second, strict=True)]
    return PairedTest("wilcoxon", {**better_and_worse(differences), "p": wilcoxon(differences)})


def better_and_worse(differences: Sequence[float]) -> dict[str, int]:
    """Return the numbers of differences above and below zero.

    >>> better_and_worse([0.5, 0.0, 1.0, -0.5])
    {'better': 2, 'worse': 1}
    """
    better, worse = (sum(sign * difference > 0 for difference in differences) for sign in (1, -1))
    return {"better": better, "worse": worse}


def wilcoxon(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of the signed-rank test; differences of zero are left out (Wilcoxon, 1945)."""
    from scipy.stats import wilcoxon as signed_rank

    nonzero = [difference for difference in differences if difference]
    return float(signed_rank(nonzero).pvalue) if nonzero else 1.0


def t_quantile(degrees: npt.ArrayLike) -> Floats:
    """Return the two-sided 95 % quantile of Student's t-distribution."""
    from scipy.special import stdtrit

    return np.asarray(stdtrit(np.asarray(degrees, dtype=np.float64), 0.5 + CONFIDENCE / 2))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value of McNemar's test, from the images that only one network gets right."""
    from scipy.stats import binomtest

    count = only_first + only_second
    return float(binomtest(only_first, count).pvalue) if count else 1.0


def image_interval(differences: Sequence[float], bound: float = 1.0) -> Interval:
    """Return the mean of the differences on single images, with its confidence interval.

    Args:
        differences: the differences of two networks, one for each image.
        bound: the largest possible absolute mean.

    >>> image_interval([1, 0, 1, 0, 0, 0, 0, 0])
    Interval(estimate=0.25, low=-0.252..., high=0.652...)
    """
    low, high = image_bounds(np.asarray(differences, dtype=np.float64), bound)
    return Interval(math.fsum(differences) / len(differences), float(low), float(high))


def image_bounds(differences: Floats, bound: float = 1.0) -> tuple[Floats, Floats]:
    """Return the ends (...) of confidence intervals over the images of the last axis (..., N).

    Each is Student's t-interval over the images and two pseudo-observations: plus and minus the largest difference. For
    outcomes of 0 and 1, this is the interval of Bonett and Price (Journal of Educational and Behavioral Statistics,
    2012), which keeps its coverage where two networks differ on few images.
    """
    count = differences.shape[-1]
    largest = np.abs(differences).max(-1)
    centre = differences.sum(-1) / (count + 2)
    squares = np.square(differences).sum(-1)
    spread = widened_variance(squares, centre, count, np.where(largest > 0, largest, bound))
    margin = t_quantile(count + 1) * np.sqrt(spread / (count + 2))
    return np.maximum(-bound, centre - margin), np.minimum(bound, centre + margin)


def widened_variance(squares: Floats, centre: Floats, count: int, size: Floats) -> Floats:
    """Return the variance (...) of `count` differences and two pseudo-observations, `size` and `-size`.

    Args:
        squares: the sum of the squares of the differences.
        centre: the mean of all `count + 2` values.
        count: the number of differences.
        size: the absolute value of the pseudo-observations.
    """
    variance: Floats = (squares + 2 * np.square(size) - (count + 2) * np.square(centre)) / (count + 1)
    return variance


def verdict(
    interval: Interval,
    claim: tuple[str, str],
    basis: str,
    words: tuple[str, str] = ("higher", "lower"),
    *,
    percent: bool = True,
) -> str:
    """Return the conclusion that a confidence interval supports, as one sentence.

    Args:
        interval: the interval of the difference of two fractions, the first minus the second.
        claim: the text of the conclusion before and after one of the words.
        basis: what the interval was computed over, such as `60 images`.
        words: the words for a positive and for a negative difference.
        percent: whether the values are fractions, to be printed as percentage points.

    >>> verdict(Interval(0.02, 0.01, 0.03), ("a scores", "than b"), "60 images")
    'The evidence shows that a scores higher than b (+2.00 points, 95 % interval +1.00 to +3.00; 60 images).'
    """
    significant = interval.low > 0 or interval.high < 0
    word = words[interval.high < 0] if significant else " or ".join(words)
    conclusion = f"{'shows that' if significant else 'does not show whether'} {claim[0]} {word} {claim[1]}"
    factor, unit, digits = (100, " points", 2) if percent else (1, "", 4)
    ends = f"95 % interval {factor * interval.low:+.{digits}f} to {factor * interval.high:+.{digits}f}"
    if math.isinf(interval.low):
        ends = "no interval, because the runs ended alike"
    return f"The evidence {conclusion} ({factor * interval.estimate:+.{digits}f}{unit}, {ends}; {basis})."
