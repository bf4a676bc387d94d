"""What paired numbers allow one to say: intervals for a difference, and McNemar's exact test."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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


def t_quantile(degrees: int) -> float:
    """Give the point that a t-distributed number exceeds in size with a probability of 5 %."""
    return _root(lambda t: _t_within(t, degrees) - CONFIDENCE, 0.0, 20.0)


def mcnemar(only_first: int, only_second: int) -> float:
    """Give the exact two-sided p-value for the images that only one of two networks gets right."""
    count = only_first + only_second
    return min(1.0, 2 * _at_most(min(only_first, only_second), count, 0.5))


def exact_interval(only_first: int, only_second: int, images: int) -> Interval:
    """Give the difference in accuracy with the exact interval that belongs to McNemar's test.

    Given how many images tell the two networks apart, those that speak for the first are binomial (Clopper and
    Pearson, 1934); where none does, the interval is what that many images can rule out.
    """
    count = only_first + only_second
    if count == 0:
        bound = 1 - (0.5 * (1 - CONFIDENCE)) ** (1 / images)
        return Interval(0.0, -bound, bound)
    low, high = _clopper_pearson(only_first, count)
    scale = count / images
    return Interval((only_first - only_second) / images, scale * (2 * low - 1), scale * (2 * high - 1))


def _clopper_pearson(hits: int, count: int) -> tuple[float, float]:
    tail = 0.5 * (1 - CONFIDENCE)
    low = 0.0 if hits == 0 else _root(lambda p: 1 - _at_most(hits - 1, count, p) - tail, 0.0, 1.0)
    high = 1.0 if hits == count else _root(lambda p: tail - _at_most(hits, count, p), 0.0, 1.0)
    return low, high


def _at_most(hits: int, count: int, chance: float) -> float:
    """Give the binomial probability of at most so many hits."""
    if chance <= 0:
        return 1.0
    if chance >= 1:
        return float(hits >= count)
    yes, no = math.log(chance), math.log1p(-chance)
    return math.fsum(math.exp(_log_choose(count, k) + k * yes + (count - k) * no) for k in range(hits + 1))


def _log_choose(count: int, k: int) -> float:
    return math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)


def _t_within(t: float, degrees: int, pieces: int = 2000) -> float:
    """Integrate Student's density from -t to t by Simpson's rule."""
    norm = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(degrees * math.pi)
    step = t / pieces
    weights = (1 if k in (0, pieces) else 4 if k % 2 else 2 for k in range(pieces + 1))
    heights = ((1 + (k * step) ** 2 / degrees) ** (-(degrees + 1) / 2) for k in range(pieces + 1))
    return 2 * norm * step / 3 * math.fsum(weight * height for weight, height in zip(weights, heights, strict=True))


def _root(rising: Callable[[float], float], low: float, high: float) -> float:
    """Find where a rising function crosses zero, by halving."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < 0 else (low, middle)
    return (low + high) / 2
