"""Simulated differences between networks on images whose scores are no right or wrong, and masks with their mIoU."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from attn_surgeon.tasks.overlap import mean_iou_by_image
from attn_surgeon.tasks.statistics import Floats

Draw = Callable[[np.random.Generator, tuple[int, int]], Floats]

# kinds of differences between two scores of an image, (R, N), and their mean
GRADED: dict[str, tuple[Draw, float]] = {
    "normal": (lambda generator, shape: generator.normal(0.01, 0.05, shape), 0.01),
    "heavy tails": (lambda generator, shape: 0.05 * generator.standard_t(3, shape), 0.0),
    "skewed": (lambda generator, shape: 0.05 * generator.exponential(1, shape), 0.05),
    "half of the images differ": (
        lambda generator, shape: (generator.random(shape) < 0.5) * generator.normal(0.05, 0.1, shape),
        0.025,
    ),
    "one in ten differs": (
        lambda generator, shape: (generator.random(shape) < 0.1) * generator.normal(0.1, 0.2, shape),
        0.01,
    ),
}
# standard deviations of what a network is better by: in one run on all images, on one image in all runs, and in one run
# on one image; the last two on three images of ten, with heavy tails
SPREADS = {
    "runs end alike": (0.0, 0.1, 0.1),
    "some images suit one network": (0.003, 0.2, 0.02),
    "runs differ": (0.02, 0.02, 0.2),
}
PRESENT = np.array([1.0, 0.7, 0.3, 0.1])  # how many images show each class
QUALITY = (np.array([0.9, 0.8, 0.7, 0.6]), np.array([0.88, 0.78, 0.7, 0.55]))  # of each class, by two networks


def overlaps(generator: np.random.Generator, images: int) -> list[tuple[Floats, Floats]]:
    """Return hits and unions (N, K) in pixels of two networks on the same images."""
    size = (generator.random((images, 4)) < PRESENT) * generator.lognormal(6, 1, (images, 4))
    hard = generator.normal(0, 0.8, (images, 1))
    found = []
    for quality in QUALITY:
        logit = np.log(quality / (1 - quality)) + hard + generator.normal(0, 0.5, (images, 4))
        hits = size / (1 + np.exp(-logit))
        found.append((hits, size + 0.1 * generator.random((images, 4)) * (size - hits)))
    return found


def true_miou_difference(generator: np.random.Generator, images: int = 200_000) -> float:
    """Return the difference in mIoU over very many images."""
    first, second = (hits.sum(0) / unions.sum(0) for hits, unions in overlaps(generator, images))
    return float(first.mean() - second.mean())


def miou_differences(generator: np.random.Generator, repeats: int, images: int) -> Floats:
    """Return the difference in what each image adds to the mIoU, (R, N)."""

    def by_image() -> Floats:
        first, second = (
            mean_iou_by_image(torch.from_numpy(hits), torch.from_numpy(unions))
            for hits, unions in overlaps(generator, images)
        )
        return np.asarray((first - second).numpy(), dtype=np.float64)

    return np.stack([by_image() for _ in range(repeats)])


def scores_of_runs(
    generator: np.random.Generator, spread: tuple[float, float, float], repeats: int, runs: int, images: int
) -> tuple[Floats, Floats]:
    """Return scores (R, K, N) of two networks that are equally good over runs and images."""
    run, image, both = spread

    def network() -> Floats:
        suits = _some(generator, (repeats, 1, images)) * image * generator.exponential(1, (repeats, 1, images))
        alone = _some(generator, (repeats, runs, images)) * both
        return np.asarray(run * generator.standard_normal((repeats, runs, 1)) + suits + alone, dtype=np.float64)

    return network(), network()


def _some(generator: np.random.Generator, shape: tuple[int, int, int]) -> Floats:
    """Return normal values, seven of ten of them zero."""
    return np.asarray((generator.random(shape) < 0.3) * generator.standard_normal(shape), dtype=np.float64)
