"""Simulated right and wrong answers of networks, trained several times with and without grafts.

An answer is right where a sum is above zero: how easy the image is, how well it suits the network, how well the
training run went, and how well that run does on that image, all normal.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from attn_surgeon.tasks.statistics import Floats

RUN_AND_IMAGE = 0.3  # standard deviation over runs of one network on one image, where images have 1
CHUNK = 2**21  # values at a time


@dataclass(frozen=True)
class Setting:
    """What chance does.

    Args:
        name: for the table.
        accuracy: of the network without grafts.
        noise: standard deviations of the accuracy over training runs, in points, with grafts and without.
        images: the standard deviation of how well images suit a network, where that of their easiness is 1.
        shared: how much of the noise a run with grafts shares with the one without.
    """

    name: str
    accuracy: float = 0.9
    noise: tuple[float, float] = (0.0, 0.0)
    images: float = 0.0
    shared: float = 0.0


SETTINGS = (
    Setting("runs end alike"),
    Setting("runs end alike, some images suit one network", images=0.3),
    Setting("runs differ by 1 point", noise=(1.0, 1.0), images=0.2),
    Setting("by 1 point, which both networks share", noise=(1.0, 1.0), images=0.2, shared=0.7),
    Setting("by 3 points", noise=(3.0, 3.0)),
    Setting("by 3 points, some images suit one network", noise=(3.0, 3.0), images=0.3),
    Setting("by 1 and 3 points", noise=(1.0, 3.0)),
    Setting("by 0 and 4 points", noise=(0.0, 4.0)),
    Setting("accuracy 98 %, by 0.5 points", accuracy=0.98, noise=(0.5, 0.5), images=0.2),
    Setting("accuracy 70 %, by 2 points", accuracy=0.7, noise=(2.0, 2.0), images=0.3),
)


def answers(
    setting: Setting, runs: int, images: int, repeats: int, effect: float = 0.0, seed: int = 0
) -> Iterator[tuple[Floats, Floats]]:
    """Yield the answers, 1 or 0, of networks with grafts and without, (R, K, N), until there are `repeats`."""
    generator, step = np.random.default_rng(seed), max(1, CHUNK // (runs * images))
    for start in range(0, repeats, step):
        count = min(step, repeats - start)
        easiness = generator.standard_normal((count, 1, images), dtype=np.float32)
        common = generator.standard_normal((count, runs, 1), dtype=np.float32)
        with_grafts, without = (
            easiness + _ability(setting, number, easiness, common, generator) + _level(setting, number, gain) > 0
            for number, gain in enumerate((effect, 0.0))
        )
        yield with_grafts.astype(np.float64), without.astype(np.float64)


def _ability(
    setting: Setting,
    number: int,
    easiness: npt.NDArray[np.float32],
    common: npt.NDArray[np.float32],
    generator: np.random.Generator,
) -> npt.NDArray[np.float32]:
    """Return what one network is better by than its mean, (R, K, N)."""
    own = generator.standard_normal(common.shape, dtype=np.float32)
    luck = np.sqrt(1 - setting.shared) * own + np.sqrt(setting.shared) * common
    suits = setting.images * generator.standard_normal(easiness.shape, dtype=np.float32)
    both = generator.standard_normal((*common.shape[:2], easiness.shape[-1]), dtype=np.float32)
    return np.asarray(_noise(setting, number) * luck + suits + RUN_AND_IMAGE * both, dtype=np.float32)


def _spread(setting: Setting) -> float:
    return float(np.sqrt(1 + RUN_AND_IMAGE**2 + setting.images**2))


def _noise(setting: Setting, number: int) -> float:
    """Return the standard deviation over runs that changes the accuracy by so many points."""
    slope = norm.pdf(norm.ppf(setting.accuracy)) / _spread(setting)
    return float(setting.noise[number] / 100 / slope)


def _level(setting: Setting, number: int, gain: float) -> float:
    """Return the mean ability of a network whose accuracy is the setting's and `gain` more."""
    return float(norm.ppf(setting.accuracy + gain) * np.hypot(_spread(setting), _noise(setting, number)))
