"""What paired numbers allow one to say: intervals for a difference, McNemar's exact test, and the sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """Hold an estimate and the ends of its 95 % interval."""

    estimate: float
    low: float
    high: float


def t_interval(values: Sequence[float]) -> Interval:
    """Give the mean of at least two values with Student's interval."""
    count = len(values)
    mean = math.fsum(values) / count
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    reach = t_quantile(count - 1) * math.sqrt(variance / count)
    return Interval(mean, mean - reach, mean + reach)


def share_interval(differences: Sequence[float]) -> Interval:
    """Give the mean of shares' differences with Student's interval; one image alone says nothing."""
    return t_interval(differences) if len(differences) > 1 else Interval(differences[0], -1.0, 1.0)


def wilcoxon(differences: Sequence[float]) -> float:
    """Give the two-sided p-value of the signed-rank test; differences of zero are left out (Wilcoxon, 1945)."""
    from scipy.stats import wilcoxon as signed_rank

    told = [difference for difference in differences if difference]
    return float(signed_rank(told).pvalue) if told else 1.0


def signed_ranks(differences: Sequence[float]) -> dict[str, float]:
    """Count the images that are better and worse, and test whether they tend to one side."""
    better, worse = (sum(sign * difference > 0 for difference in differences) for sign in (1, -1))
    return {"better": better, "worse": worse, "p": wilcoxon(differences)}


def t_quantile(degrees: int) -> float:
    """Give the point that a t-distributed number exceeds in size with a probability of 5 %."""
    from scipy.stats import t

    return float(t.ppf(0.5 + CONFIDENCE / 2, degrees))


def mcnemar(only_first: int, only_second: int) -> float:
    """Give the exact two-sided p-value for the images that only one of two networks gets right."""
    from scipy.stats import binomtest

    count = only_first + only_second
    return float(binomtest(only_first, count).pvalue) if count else 1.0


def exact_interval(only_first: int, only_second: int, images: int) -> Interval:
    """Give the difference in accuracy with the exact interval that belongs to McNemar's test.

    Given how many images tell the two networks apart, those that speak for the first are binomial (Clopper and
    Pearson, 1934); where none does, the interval is what that many images can rule out.
    """
    from scipy.stats import binomtest

    count = only_first + only_second
    if count == 0:
        bound = 1 - (0.5 * (1 - CONFIDENCE)) ** (1 / images)
        return Interval(0.0, -bound, bound)
    share = binomtest(only_first, count).proportion_ci(CONFIDENCE, method="exact")
    scale = count / images
    return Interval((only_first - only_second) / images, scale * (2 * share.low - 1), scale * (2 * share.high - 1))


def image_interval(differences: Sequence[float], most: float = 1.0) -> Interval:
    """Give the mean of what every image says of two networks, from -most to most, with an interval over images.

    It is Student's over the images and two more, of which each network wins one outright. For right and wrong answers
    that is the interval of Bonett and Price (Journal of Educational and Behavioral Statistics, 2012), which keeps its
    level where only a few images tell two networks apart.
    """
    widened = t_interval([*differences, most, -most])
    return Interval(math.fsum(differences) / len(differences), max(-most, widened.low), min(most, widened.high))


def verdict(interval: Interval, cause: str, scope: str) -> str:
    """Say in one sentence what the evidence shows, and never more."""
    shown = "a gain" if interval.low > 0 else "a loss" if interval.high < 0 else "neither a gain nor a loss"
    low, high = 100 * interval.low, 100 * interval.high
    points = f"{100 * interval.estimate:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}"
    return f"The evidence shows {shown} {cause} ({points}), {scope}."
