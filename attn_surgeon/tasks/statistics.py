"""What paired outcomes allow one to conclude: intervals for a difference, paired tests, and the sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

CONFIDENCE = 0.95
PairedOutcomes = tuple[Sequence[float], Sequence[float]]  # of two networks on the same images


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % confidence interval."""

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class PairedTest:
    """Two networks compared on the same images.

    Args:
        name: the test, as documents have it: `mcnemar` or `wilcoxon`.
        difference: the mean difference of the outcomes, first less second, with the interval for one training run.
        how: how the interval is computed.
        values: the test's p-value and counts.
        pooling: how the test pools several training runs.
    """

    name: str
    difference: Interval
    how: str
    values: dict[str, Any]
    pooling: str


def compare_correctness(runs: Sequence[PairedOutcomes]) -> PairedTest:
    """Compare outcomes that are 1 (correct) or 0 by McNemar's exact test; an image counts once for each run.

    >>> compare_correctness([([1, 1, 0, 1], [1, 0, 0, 0])]).values
    {'only_first': 2, 'only_second': 0, 'p': 0.5}
    """
    pairs = [pair for first, second in runs for pair in zip(first, second, strict=True)]
    first, second = pairs.count((1, 0)), pairs.count((0, 1))
    values = {"only_first": first, "only_second": second, "p": mcnemar(first, second)}
    interval, how = exact_interval(first, second, len(pairs)), "McNemar's exact test over images"
    return PairedTest(
        "mcnemar", interval, how, values, "an image counts once for each run, as if runs were independent"
    )


def compare_means(runs: Sequence[PairedOutcomes], title: str) -> PairedTest:
    """Compare outcomes by the signed-rank test; an image counts once, with its mean difference over the runs.

    Args:
        runs: the outcomes of both networks in each training run.
        title: what the outcome of an image is, for people.
    """
    images = zip(*([a - b for a, b in zip(first, second, strict=True)] for first, second in runs), strict=True)
    differences = [math.fsum(image) / len(runs) for image in images]
    how = f"Student's t over images ({title})"
    pooling = "an image counts once, with its mean over the runs"
    return PairedTest("wilcoxon", share_interval(differences), how, signed_ranks(differences), pooling)


def t_interval(values: Sequence[float]) -> Interval:
    """Return the mean of at least two values with Student's interval.

    >>> t_interval([0.5, 0.5])
    Interval(estimate=0.5, low=0.5, high=0.5)
    """
    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    reach = t_quantile(count - 1) * math.sqrt(variance / count)
    return Interval(mean, mean - reach, mean + reach)


def share_interval(differences: Sequence[float], bound: float = 1.0) -> Interval:
    """Return the mean of differences, each from -bound to bound, with Student's interval; one alone gives none."""
    return t_interval(differences) if len(differences) > 1 else Interval(differences[0], -bound, bound)


def wilcoxon(differences: Sequence[float]) -> float:
    """Return the two-sided p-value of the signed-rank test; differences of zero are left out (Wilcoxon, 1945)."""
    from scipy.stats import wilcoxon as signed_rank

    nonzero = [difference for difference in differences if difference]
    return float(signed_rank(nonzero).pvalue) if nonzero else 1.0


def signed_ranks(differences: Sequence[float]) -> dict[str, Any]:
    """Return how many images are better and worse, and the p-value of the signed-rank test."""
    better, worse = (sum(sign * difference > 0 for difference in differences) for sign in (1, -1))
    return {"better": better, "worse": worse, "p": wilcoxon(differences)}


def t_quantile(degrees: int) -> float:
    """Return the point that the absolute value of a t-distributed number exceeds with a probability of 5 %."""
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, degrees))


def mcnemar(only_first: int, only_second: int) -> float:
    """Return the exact two-sided p-value for the images that only one of two networks gets right."""
    from scipy.stats import binomtest

    count = only_first + only_second
    return float(binomtest(only_first, count).pvalue) if count else 1.0


def exact_interval(only_first: int, only_second: int, images: int) -> Interval:
    """Return the difference in accuracy with the exact interval that belongs to McNemar's test.

    Given the number of images on which the networks differ, those in favour of the first are binomial (Clopper and
    Pearson, 1934); where there are none, the interval is what that many images can rule out.
    """
    from scipy.stats import binomtest

    count = only_first + only_second
    if count == 0:
        bound = 1 - (0.5 * (1 - CONFIDENCE)) ** (1 / images)
        return Interval(0.0, -bound, bound)
    share = binomtest(only_first, count).proportion_ci(CONFIDENCE, method="exact")
    scale = count / images
    return Interval((only_first - only_second) / images, scale * (2 * share.low - 1), scale * (2 * share.high - 1))


def image_interval(differences: Sequence[float], bound: float = 1.0) -> Interval:
    """Return the mean of the differences on single images, from -bound to bound, with an interval over images.

    It is Student's over the images and two more, of which each network wins one. For right and wrong answers that is
    the interval of Bonett and Price (Journal of Educational and Behavioral Statistics, 2012), which keeps its level
    where two networks differ on few images.
    """
    widened = t_interval([*differences, bound, -bound])
    return Interval(math.fsum(differences) / len(differences), max(-bound, widened.low), min(bound, widened.high))


def verdict(interval: Interval, cause: str, scope: str) -> str:
    """Return one sentence with the conclusion that the interval supports.

    >>> verdict(Interval(0.02, 0.01, 0.03), "from the grafts", "over 3 seeds")
    'The evidence shows a gain from the grafts (+2.00 points, 95 % interval +1.00 to +3.00), over 3 seeds.'
    """
    shown = "a gain" if interval.low > 0 else "a loss" if interval.high < 0 else "neither a gain nor a loss"
    low, high = 100 * interval.low, 100 * interval.high
    points = f"{100 * interval.estimate:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}"
    return f"The evidence shows {shown} {cause} ({points}), {scope}."
