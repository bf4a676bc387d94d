"""Confidence intervals by the bootstrap over images, for metrics that are no mean over images (Efron, 1979)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from attn_surgeon.tasks.statistics import Floats, Interval, t_quantile

RESAMPLES = 1000
Counts = npt.NDArray[Any]  # how often each image is drawn in each resample (B, N)
Resampled = Callable[[Counts], Floats]  # returns the metric of each resample (B,)


def drawn_images(images: int) -> Counts:
    """Return how often each image is drawn in each resample (B, N), the same for all networks."""
    generator = np.random.default_rng(0)
    rows = (generator.integers(0, images, images) for _ in range(RESAMPLES))
    return np.stack([np.bincount(row, minlength=images).astype(np.int16) for row in rows])


def bootstrap_interval(
    estimate: float, resamples: Floats, images: int, limits: tuple[float, float] = (-1.0, 1.0)
) -> Interval:
    """Return the interval between percentiles of resamples (B,), within the limits of the value.

    The percentiles are those of Hesterberg (The American Statistician, 2015, section 3.3), wider than 2.5 and 97.5 for
    few images, so that the interval for a mean is as wide as Student's t-interval. Values that are zero in all
    resamples, such as differences of equal networks, contain no estimate of the variance: the interval is as wide as
    possible. How often it is wrong is simulated by `python -m tests.statistics.boxes`.

    >>> bootstrap_interval(0.5, np.linspace(0, 1, 1001), 1000)
    Interval(estimate=0.5, low=0.02..., high=0.97...)
    """
    from scipy.special import ndtr

    if images < 2 or not resamples.any():
        return Interval(estimate, *limits)
    share = float(ndtr(-math.sqrt(images / (images - 1)) * t_quantile(images - 1)))
    low, high = np.nanquantile(resamples, (share, 1 - share)).tolist()
    return Interval(estimate, max(limits[0], low), min(limits[1], high))
