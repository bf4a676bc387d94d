"""The difference between two kinds of network, each trained once or several times, on the same images.

Chance enters in two places: training runs end differently, and other images would be harder for one network or the
other. Over K runs of each kind on N images the difference D has the interval

    D ± max(z·√I, √(t²·R + z²·max(I − E, 0)))

R is its variance over the runs, s₁²/K + s₂²/K, and t Student's point with Welch's degrees of freedom (Biometrika,
1947). I is its variance over the images, each of which counts once with its mean over the runs. E is in both: what
differs from image to image and run to run at once. So the runs cannot make the interval narrower than the images allow,
however alike they happen to end.

Runs and images are random and crossed as readers and cases are in studies of radiology (Dorfman, Berbaum and Metz,
Investigative Radiology, 1992). Each variance has its own quantile (Graybill and Wang, Journal of the American
Statistical Association, 1980): their approximation by one t-distribution claims too much with two runs.
`python -m tests.statistics` measures how often the interval is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import numpy as np

from attn_surgeon.tasks.base import Score
from attn_surgeon.tasks.bootstrap import Resampled, bootstrap_interval, drawn_images
from attn_surgeon.tasks.statistics import (
    ROUNDING,
    Floats,
    Interval,
    image_interval,
    t_quantile,
    verdict,
    widened_variance,
)

_ONE_RUN = (
    "One training run of each does not show how much of that is due to the grafts, and how much to chance in training:"
    " repeat it with several seeds."
)


def score_interval(first: Sequence[Score], second: Sequence[Score]) -> Interval:
    """Return the mean difference in the metric between two kinds of network, with its 95 % interval.

    Args:
        first: a score for each training run.
        second: as many scores of the other kind, on the same images.

    Returns:
        for one run of each the interval over images, which holds for these two networks only.
    """
    resampled = [[score.resampled for score in scores] for scores in (first, second)]
    if None in resampled[0] + resampled[1]:
        return values_interval([score.by_image for score in first], [score.by_image for score in second])
    return _resampled_interval(first, second)


def _resampled_interval(first: Sequence[Score], second: Sequence[Score]) -> Interval:
    """Return the interval of `score_interval` for a metric that is no mean over images, by a paired bootstrap.

    The variances over images, I and E, are those over resamples of the images, the same for all networks.
    """
    images = len(first[0].outcomes)
    counts = drawn_images(images)
    ours, theirs = (
        np.array([cast(Resampled, score.resampled)(counts) for score in scores]) for scores in (first, second)
    )
    metrics = np.array([[score.metric for score in scores] for scores in (first, second)])
    differences, estimate = ours - theirs, float(metrics[0].mean() - metrics[1].mean())
    if len(first) == 1:
        return bootstrap_interval(estimate, differences[0], images)
    mean, unbiased = differences.mean(0), images / max(1, images - 1)
    over_images = unbiased * np.nanvar(mean)
    both = unbiased * np.nanvar(differences - mean, axis=1).sum() / (len(first) - 1) / len(first)
    over_runs, degrees = _over_runs(metrics[:1, :, None], metrics[1:, :, None])
    reach = float(_reach(over_images, both, over_runs, degrees, images)[0])
    return Interval(estimate, max(-1.0, estimate - reach), min(1.0, estimate + reach))


def values_interval(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> Interval:
    """Return the interval of `score_interval` from the values, from 0 to 1, of N images in each of K runs.

    >>> values_interval([[1, 1, 0, 1]], [[1, 0, 0, 0]])
    Interval(estimate=0.5, low=-0.523..., high=1.0)
    """
    ours, theirs = np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)
    if len(ours) == 1:
        return image_interval((ours[0] - theirs[0]).tolist())
    estimate, reach = runs_reach(ours, theirs)
    return Interval(float(estimate), max(-1.0, float(estimate - reach)), min(1.0, float(estimate + reach)))


def welch_interval(first: Sequence[float], second: Sequence[float]) -> Interval:
    """Return the difference of the means of two runs or more of each kind, with Welch's interval (Biometrika, 1947).

    Runs that end alike, such as rounded numbers may by chance, do not show how far others would spread: the interval
    has no ends then.

    >>> welch_interval([0.5, 0.5], [0.25, 0.25])
    Interval(estimate=0.25, low=-inf, high=inf)
    """
    values = np.array([first, second], dtype=np.float64)
    estimate = float(values[0].mean() - values[1].mean())
    variance, degrees = _over_runs(values[:1, :, None], values[1:, :, None])
    if np.ptp(values, axis=1).max() <= ROUNDING * np.abs(values).max():
        return Interval(estimate, -math.inf, math.inf)
    reach = float((t_quantile(degrees) * np.sqrt(variance))[0])
    return Interval(estimate, estimate - reach, estimate + reach)


def describe_runs(runs: int, images: int = 0, *, bootstrap: bool = False) -> str:
    """Return what an interval was computed over.

    >>> describe_runs(3, 1000), describe_runs(1, 60), describe_runs(1)
    ('3 training runs of each, 1,000 images', '60 images', 'one training run of each')
    >>> describe_runs(1, 60, bootstrap=True)
    '60 images, by bootstrap'
    """
    counted = f"{images:,} images{', by bootstrap' * bootstrap}" if images else ""
    if runs == 1:
        return counted or "one training run of each"
    return ", ".join(filter(None, (f"{runs} training runs of each", counted)))


def grafts_verdict(
    interval: Interval,
    runs: int,
    images: int = 0,
    *,
    percent: bool = True,
    smaller_is_better: bool = False,
    bootstrap: bool = False,
) -> str:
    """Return the conclusion about networks trained with grafts and without, with a caveat if each was trained once.

    Args:
        interval: the difference in the metric, with grafts minus without.
        runs: the number of training runs of each.
        images: the number of images whose outcomes the interval was computed from; 0 for one number a run.
        percent: whether the metric is a fraction, to be printed as percentage points.
        smaller_is_better: whether smaller values of the metric are better, which the sentence then says.
        bootstrap: whether the interval was computed from resamples of the images.
    """
    one = runs == 1
    words = ("higher (worse)", "lower (better)") if smaller_is_better else ("higher", "lower")
    if one and not images:
        return f"The difference is {interval.estimate:+.4f}{', smaller is better' * smaller_is_better}. {_ONE_RUN}"
    subject = "this network with grafts scores" if one else "training with the grafts scores"
    against = "than this control" if one else "than training without them"
    claim = subject, f"{against} on images like these" if images else against
    text = verdict(interval, claim, describe_runs(runs, images, bootstrap=bootstrap), words, percent=percent)
    return f"{text} {_ONE_RUN}" if one else text


def runs_reach(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return the difference (...) between two kinds of network, and how far its interval reaches to either side.

    Args:
        first: values (..., K, N) of N images in each of K runs, K at least two.
        second: those of the other kind.
    """
    differences = first - second
    runs, images = differences.shape[-2:]
    by_run, by_image = differences.mean(-1), differences.mean(-2)
    mean = by_run.mean(-1)
    over_runs, degrees = _over_runs(first, second)
    over_images = _over_images(by_image)
    left = differences - by_run[..., None] - by_image[..., None, :] + mean[..., None, None]
    both = np.square(left).sum((-2, -1)) / ((runs - 1) * max(1, images - 1)) / (runs * images)
    return mean, _reach(over_images, both, over_runs, degrees, images)


def _reach(over_images: Floats, both: Floats, over_runs: Floats, degrees: Floats, images: int) -> Floats:
    """Return how far the interval reaches to either side, from the variances I, E and R."""
    z = t_quantile(images + 1)
    apart = np.maximum(over_images - both, 0)
    sum_of_both = np.sqrt(np.square(t_quantile(degrees)) * over_runs + np.square(z) * apart)
    reach: Floats = np.maximum(z * np.sqrt(over_images), sum_of_both)
    return reach


def _over_runs(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """Return the variance (...) of the difference over the runs, and its degrees of freedom."""
    runs = first.shape[-2]
    parts = np.stack([values.mean(-1).var(-1, ddof=1) / runs for values in (first, second)])
    total, squares = parts.sum(0), np.square(parts).sum(0)
    return total, np.where(squares > 0, (runs - 1) * np.square(total) / np.where(squares > 0, squares, 1.0), runs - 1)


def _over_images(differences: Floats) -> Floats:
    """Return the variance (...) over images (..., N) of the mean of their differences.

    As in `image_interval` there are two images more. They differ by the root mean square of the images that differ at
    all: means over runs are smaller than what is seen in one run.
    """
    images = differences.shape[-1]
    squares, differing = np.square(differences).sum(-1), (differences != 0).sum(-1)
    size = np.sqrt(np.where(differing > 0, squares / np.maximum(differing, 1), 1.0))
    variance: Floats = widened_variance(squares, differences.sum(-1) / (images + 2), images, size) / (images + 2)
    return variance
