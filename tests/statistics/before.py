"""The intervals of version 0.2.0, to compare with; each takes arrays and returns its ends."""

from __future__ import annotations

import numpy as np

from attn_surgeon.tasks.statistics import Floats, t_quantile

Ends = tuple[Floats, Floats]


def student(values: Floats) -> Ends:
    """Return Student's interval for the mean over the last axis: over seeds, or over images."""
    count, mean = values.shape[-1], values.mean(-1)
    reach = t_quantile(count - 1) * values.std(-1, ddof=1) / np.sqrt(count)
    return mean - reach, mean + reach


def over_seeds(first: Floats, second: Floats) -> Ends:
    """Return Student's interval over the differences of each seed, for answers (..., K, N)."""
    return student(first.mean(-1) - second.mean(-1))


def conditional(differences: Floats) -> Ends:
    """Return the interval of McNemar's exact test, for differences of answers (..., N).

    It takes the number of images that differ as given.
    """
    from scipy.stats import beta

    images = differences.shape[-1]
    ours, theirs = (differences > 0).sum(-1), (differences < 0).sum(-1)
    low = np.where(ours > 0, beta.ppf(0.025, np.maximum(ours, 1), theirs + 1), 0.0)
    high = np.where(theirs > 0, beta.ppf(0.975, ours + 1, np.maximum(theirs, 1)), 1.0)
    share, bound = (ours + theirs) / images, 1 - 0.025 ** (1 / images)
    none = share == 0
    return np.where(none, -bound, share * (2 * low - 1)), np.where(none, bound, share * (2 * high - 1))
