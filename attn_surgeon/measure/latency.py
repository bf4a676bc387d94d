"""Measure the latency of networks in interleaved rounds, so that load on the machine affects all of them alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.surgery.isolation import mode

WARM_UP, ROUNDS = 3, 15


@dataclass(frozen=True)
class Latency:
    """The median of repeated timings and their quartiles, in seconds.

    >>> summarise([0.005, 0.001, 0.002, 0.1, 0.004])
    Latency(median=0.004, lower=0.002, upper=0.005)
    """

    median: float
    lower: float
    upper: float

    @property
    def spread(self) -> float:
        """The interquartile range in seconds."""
        return self.upper - self.lower

    @property
    def quartiles(self) -> tuple[float, float]:
        """The lower and the upper quartile."""
        return self.lower, self.upper

    def text(self, digits: int = 2) -> str:
        """Return the median and the quartiles in milliseconds.

        >>> Latency(0.01234, 0.0121, 0.013).text()
        '12.34 ms (12.10 to 13.00)'
        """
        median, lower, upper = (f"{1e3 * seconds:.{digits}f}" for seconds in (self.median, self.lower, self.upper))
        return f"{median} ms ({lower} to {upper})"


def summarise(seconds: Sequence[float]) -> Latency:
    """Return the median and the quartiles of two timings or more."""
    lower, median, upper = statistics.quantiles(seconds, n=4, method="inclusive")
    return Latency(median, lower, upper)


def time_interleaved(
    works: Sequence[Callable[[], float]], rounds: int = ROUNDS, *, twice: bool = True
) -> list[list[float]]:
    """Time functions in interleaved rounds, after rounds of warm-up.

    Args:
        works: functions that do some work and return the seconds it took.
        rounds: the number of timed rounds.
        twice: call each function twice per round and time the second call, so that its data is in the caches.

    Returns:
        The seconds of each function, by round.
    """
    calls = 2 if twice else 1
    timings = [[[work() for _ in range(calls)][-1] for work in works] for _ in range(WARM_UP + rounds)]
    return [list(seconds) for seconds in zip(*timings[WARM_UP:], strict=True)]


def latencies(models: Sequence[nn.Module], example: Tensor, rounds: int = ROUNDS) -> list[Latency]:
    """Measure a forward pass of each network in eval mode, on the device of the first one's parameters."""
    device = next(models[0].parameters()).device
    x = example.to(device)
    with ExitStack() as stack, torch.inference_mode():
        for model in models:
            stack.enter_context(mode(model.to(device), training=False))
        works = [partial(timed, model, x) for model in models]
        return [summarise(seconds) for seconds in time_interleaved(works, rounds)]


def timed(model: Callable[[Tensor], Any], x: Tensor) -> float:
    """Run a model once and return the seconds until the device has finished."""
    _synchronise(x)
    start = time.perf_counter()
    model(x)
    _synchronise(x)
    return time.perf_counter() - start


def _synchronise(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
