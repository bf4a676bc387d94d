"""Benchmark blocks: time and peak memory, in absolute terms and relative to a copy of the input.

A copy reads and writes every value once, which is the least that a block can do. Multiples of it depend less on the
machine than seconds.
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
    """The time and memory of a block.

    Args:
        forward: the seconds of a forward pass.
        training: the seconds of a forward and a backward pass.
        memory: the peak of both in bytes.
    """

    forward: Latency
    training: Latency
    memory: float

    def relative_to(self, other: BlockBenchmark) -> BlockBenchmark:
        """Return the benchmark as multiples of another one's medians and memory."""
        forward = _scaled(self.forward, other.forward.median)
        return BlockBenchmark(forward, _scaled(self.training, other.training.median), self.memory / other.memory)

    def to_dict(self) -> dict[str, Any]:
        """Return the medians and quartiles as JSON values."""
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
            y: Tensor = module(x)
        return y

    def step() -> tuple[Tensor, ...]:
        leaf = x.detach().requires_grad_()
        return torch.autograd.grad((module(leaf) * slope).sum(), [leaf, *module.parameters()])

    memory = float(peak_memory(step, device))
    return BlockBenchmark(_latency(forward, seconds), _latency(step, seconds), memory)


def benchmark_block(
    spec: BlockSpec, shape: tuple[int, int, int, int], device: torch.device, seconds: float = 0.2
) -> BlockBenchmark:
    """Measure a newly initialised block; raise ValueError where it cannot run on features of this shape."""
    block = build_alone(spec, shape[1], shape[2] * shape[3])
    return benchmark_module(block, shape, device, seconds)


def _latency(work: Callable[[], Any], seconds: float) -> Latency:
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns where there is no GPU
    from torch.utils.benchmark import Timer

    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    times = timer.blocked_autorange(min_run_time=seconds).times
    return summarise(times if len(times) > 1 else [*times, *times])
