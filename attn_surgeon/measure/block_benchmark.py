"""What a block costs to run: time and memory, as multiples of a plain copy of its input.

A copy reads and writes every value once, which is the least a block can do, so the multiples tell more of a block and
less of the machine than seconds do.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec, build_alone
from attn_surgeon.measure.peak_memory import peak_memory


@dataclass(frozen=True)
class Speed:
    """Seconds of one forward pass, seconds of a forward and a backward, and bytes at the peak of both."""

    forward: float
    training: float
    memory: float

    def over(self, other: Speed) -> Speed:
        """Give this as multiples of another."""
        return Speed(self.forward / other.forward, self.training / other.training, self.memory / other.memory)


class Copy(nn.Module):
    """Give a copy of the input."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the same values in new memory."""
        return x.clone()


def measure(module: nn.Module, shape: tuple[int, int, int, int], device: torch.device, seconds: float = 0.2) -> Speed:
    """Measure a module on random features (N, C, H, W), each time for about so many seconds."""
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

    return Speed(_median(forward, seconds), _median(step, seconds), float(peak_memory(step, device)))


def bench(spec: BlockSpec, shape: tuple[int, int, int, int], device: torch.device, seconds: float = 0.2) -> Speed:
    """Measure a block as it starts; raise ValueError with the reason where it cannot run on such features."""
    block = build_alone(spec, shape[1], shape[2] * shape[3])
    return measure(block, shape, device, seconds)


def _median(work: Callable[[], Any], seconds: float) -> float:
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it warns where there is no GPU
    from torch.utils.benchmark import Timer

    timer = Timer("work()", globals={"work": work}, num_threads=torch.get_num_threads())
    return timer.blocked_autorange(min_run_time=seconds).median
