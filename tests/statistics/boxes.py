"""Simulate how often the bootstrap interval of a difference in mAP excludes zero without a difference.

python -m tests.statistics.boxes [REPEATS]

Two detectors of the same skill find objects of one class in the same images, some of which are hard for both. Their
matches are drawn, not boxes: an object is found with an IoU that grows with its quality, and scored by that quality
with noise; each image has a few detections that match nothing.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from attn_surgeon.tasks.average_precision import THRESHOLDS, ClassMatches, Matches
from attn_surgeon.tasks.bootstrap import bootstrap_interval, drawn_images

IMAGES = (10, 30, 87)
REPEATS = 1000
IOUS = np.linspace(0.5, 0.95, THRESHOLDS)
Values = npt.NDArray[np.float64]


def drawn_matches(random: np.random.Generator, hard: Values, objects: npt.NDArray[np.int64]) -> Matches:
    """Return the matches of a detector in images of a difficulty (N,) with a number of objects (N,)."""
    images = np.arange(len(objects))
    real, wrong = np.repeat(images, objects), np.repeat(images, random.poisson(3, len(objects)))
    quality = 1 / (1 + np.exp(hard[real] - 1 + random.normal(0, 1, len(real))))
    ious = 0.4 + 0.6 * quality * random.random(len(real)) ** 0.3
    scores = np.concatenate([quality + 0.15 * random.normal(0, 1, len(real)), random.normal(0.45, 0.2, len(wrong))])
    hits = np.concatenate([ious >= IOUS[:, None], np.zeros((THRESHOLDS, len(wrong)), dtype=bool)], 1)
    order = np.argsort(-scores)
    owners = np.concatenate([real, wrong])[order]
    return Matches((ClassMatches(owners, hits[:, order], np.zeros_like(hits), objects),))


def false_claims(images: int, repeats: int) -> float:
    """Return the share of repeats in which the interval excludes zero."""
    counts, claims = drawn_images(images), 0
    for repeat in range(repeats):
        random = np.random.default_rng([images, repeat])
        hard, objects = random.normal(0, 1, images), random.integers(1, 8, images)
        first, second = (drawn_matches(random, hard, objects) for _ in range(2))
        everything = np.ones((1, images))
        estimate = first.resampled(everything)[0] - second.resampled(everything)[0]
        resamples = first.resampled(counts) - second.resampled(counts)
        found = bootstrap_interval(float(estimate), resamples, images)
        claims += found.low > 0 or found.high < 0
    return claims / repeats


def main(arguments: Sequence[str]) -> None:
    """Print a line for each number of images."""
    repeats = int(arguments[0]) if arguments else REPEATS
    for images in IMAGES:
        print(f"{images} images: {100 * false_claims(images, repeats):.1f} % of {repeats:,} repeats", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
