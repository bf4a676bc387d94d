"""Differences between two arms with their 95 % intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tests.benchmarks.trials import mean_and_interval

DRAWS = 2000
TOLERANCE = 1e-4  # between a metric and the mean of values by image, which files have with six digits


def difference(
    lines: Mapping[str, Mapping[str, Any]], first: str, second: str, seeds: Sequence[int]
) -> tuple[float, float, float]:
    """Return by how many points the first arm is better than the second, and the ends of the 95 % interval.

    Where the metric is the mean of values by image, the interval is that of a bootstrap over seeds and over images, and
    elsewhere Student's over seeds; it is empty, NaN, for one seed of the latter.
    """
    pairs = [(lines[f"{first} {seed}"], lines[f"{second} {seed}"]) for seed in seeds]
    by_image = [np.array(ours["outcomes"]) - np.array(theirs["outcomes"]) for ours, theirs in pairs]
    metrics = [ours["metric"] - theirs["metric"] for ours, theirs in pairs]
    if any(abs(line["metric"] - np.mean(line["outcomes"])) > TOLERANCE for pair in pairs for line in pair):
        mean, low, high = mean_and_interval(metrics) if len(metrics) > 1 else (metrics[0], np.nan, np.nan)
        return 100 * mean, 100 * low, 100 * high
    values, dice = np.stack(by_image), np.random.default_rng(0)
    count, images = values.shape
    drawn = [values[dice.integers(0, count, count)][:, dice.integers(0, images, images)].mean() for _ in range(DRAWS)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return 100 * float(values.mean()), 100 * float(low), 100 * float(high)


def written(found: tuple[float, float, float]) -> str:
    """Write a difference with its interval, if it has one.

    >>> written((0.5, -0.25, 1.25))
    '+0.50 (-0.25 … +1.25)'
    """
    mean, low, high = found
    return f"{mean:+.2f}" if np.isnan(low) else f"{mean:+.2f} ({low:+.2f} … {high:+.2f})"


def whole_seeds(lines: Mapping[str, Any], arms: Sequence[str]) -> list[int]:
    """Return the seeds with which all arms were trained."""
    return [seed for seed in range(100) if all(f"{arm} {seed}" in lines for arm in arms)]
