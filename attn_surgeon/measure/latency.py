"""How long networks take, measured by turns so that what slows the machine slows all of them."""

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

WARM, ROUNDS = 3, 15


@dataclass(frozen=True)
class Latency:
    """The median of some seconds, and their spread: what lies between the quartiles."""

    median: float
    spread: float


def summarise(seconds: Sequence[float]) -> Latency:
    """Give median and spread of two measurements or more."""
    low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Latency(middle, high - low)


def by_turns(works: Sequence[Callable[[], float]], rounds: int = ROUNDS, *, again: bool = True) -> list[list[float]]:
    """Give the seconds that each piece of work says it took, round by round, after some rounds to warm up.

    Each is done `again` and timed then: the first time it finds in the caches what another left there.
    """
    times = 2 if again else 1
    turns = [[[work() for _ in range(times)][-1] for work in works] for _ in range(WARM + rounds)]
    return [list(seconds) for seconds in zip(*turns[WARM:], strict=True)]


def latencies(models: Sequence[nn.Module], example: Tensor, rounds: int = ROUNDS) -> list[Latency]:
    """Measure one forward pass of each network, in eval mode where the first has its parameters."""
    device = next(models[0].parameters()).device
    x = example.to(device)
    with ExitStack() as stack, torch.inference_mode():
        for model in models:
            stack.enter_context(mode(model.to(device), training=False))
        return [summarise(seconds) for seconds in by_turns([partial(timed, model, x) for model in models], rounds)]


def timed(model: Callable[[Tensor], Any], x: Tensor) -> float:
    """Run once and give the seconds until the device is done."""
    _wait(x)
    since = time.perf_counter()
    model(x)
    _wait(x)
    return time.perf_counter() - since


def _wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
