"""How long networks take, measured by turns so that what slows the machine slows all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn

from attn_surgeon.graph.running import mode

WARM = 3


def latencies(models: Sequence[nn.Module], example: Tensor, rounds: int = 15) -> list[float]:
    """Give the median seconds of one forward pass of each network, in eval mode where the first has its parameters."""
    device = next(models[0].parameters()).device
    x = example.to(device)
    seconds: list[list[float]] = [[] for _ in models]
    with ExitStack() as stack, torch.inference_mode():
        for model in models:
            stack.enter_context(mode(model.to(device), training=False))
        for number in range(WARM + rounds):
            for model, found in zip(models, seconds, strict=True):
                took = _time(model, x)
                if number >= WARM:
                    found.append(took)
    return [statistics.median(found) for found in seconds]


def _time(model: nn.Module, x: Tensor) -> float:
    _wait(x)
    since = time.perf_counter()
    model(x)
    _wait(x)
    return time.perf_counter() - since


def _wait(x: Tensor) -> None:
    if x.is_cuda:
        torch.cuda.synchronize(x.device)
