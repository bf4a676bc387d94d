"""Time and memory of blocks, also as multiples of those of a plain copy of their input.

A copy reads and writes every value once, which is the least a block can do, so the multiples depend less on the
machine than seconds do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec, build_alone
from attn_surgeon.measure.latency import Latency, summarise
from attn_surgeon.measure.peak_memory import peak_memory


@dataclass(frozen=True)
class BlockBenchmark:
    """What a block costs to run.

    Args:
        forward: seconds of a forward pass.
        training: seconds of a forward and a backward pass.
        memory: bytes at the peak of both.
    """

    forward: Latency
    training: Latency
    memory: float

    def over(self, other: BlockBenchmark) -> BlockBenchmark:
        """Return it as multiples of another one's medians and memory."""
        forward = _scaled(self.forward, other.forward.median)
        return BlockBenchmark(forward, _scaled(self.training, other.training.median), self.memory / other.memory)

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON: medians, and the quartiles beside them."""
        medians = {"forward": self.forward.median, "training": self.training.median, "memory": self.memory}
        quartiles = {"forward_quartiles": self.forward.quartiles, "training_quartiles": self.training.quartiles}
        return {**medians, **quartiles}


def _scaled(latency: Latency, unit: float) -> Latency:
    return Latency(latency.median / unit, latency.lower / unit, latency.upper / unit)


class Copy(nn.Module):
    """Return a copy of the input."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the same values in new memory."""
        return x.clone()


def benchmark_module(
    module: nn.Module, shape: tuple[int, int, int, int], device: torch.device, seconds: float = 0.2
) -> BlockBenchmark:
    """Measure a module in train mode on random features (N, C, H, W), for about `seconds` per timing."""
    module = module.to(device).train()
    x = torch.randn(shape, device=device)
    slope = torch.randn(shape, device=device)

    def forward() -> Tensor:
        with torch.no_grad():
            made: Tensor = module(x)
        return made

    def step() -> tuple[Tensor, ...]:
        given = x.detach().requires_grad_()
        return torch.autograd.grad((module(given) * slope).sum(), [given, *module.parameters()])

    memory = float(peak_memory(step, device))
    return BlockBenchmark(_latency(forward, seconds), _latency(step, seconds), memory)


def benchmark_block(
    spec: BlockSpec, shape: tuple[int, int, int, int], device: torch.device, seconds: float = 0.2
) -> BlockBenchmark:
    """Measure a block as it is initialised; raise ValueError where it cannot run on features of this shape."""
    block = build_alone(spec, shape[1], shape[2] * shape[3])
    return benchmark_module(block, shape, device, seconds)


def _latency(work: Callable[[], Any], seconds: float) -> Latency:
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns where there is no GPU
    from torch.utils.benchmark import Timer

    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    times = timer.blocked_autorange(min_run_time=seconds).times
    return summarise(times if len(times) > 1 else [*times, *times])
