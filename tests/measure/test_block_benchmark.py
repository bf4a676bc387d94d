"""What blocks cost to run, measured."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec
from attn_surgeon.measure.block_benchmark import Copy, benchmark_block, benchmark_module
from attn_surgeon.measure.peak_memory import peak_memory

CPU = torch.device("cpu")


def test_peak_memory_counts_what_is_held_at_one_time() -> None:
    x = torch.randn(64, 1024)
    assert peak_memory(x.clone, CPU) == x.nbytes
    assert peak_memory(lambda: x.clone().add_(1).mul_(2), CPU) == pytest.approx(x.nbytes, abs=64)
    assert peak_memory(lambda: (x + 1) * 2 + 3, CPU) == pytest.approx(2 * x.nbytes, abs=64)
    assert peak_memory(lambda: [x.clone() for _ in range(5)], CPU) == 5 * x.nbytes
    assert peak_memory(lambda: x.view(-1), CPU) == 0


def test_workspaces_of_kernels_count() -> None:
    q = torch.randn(1, 1, 512, 32)
    v = torch.randn(1, 1, 512, 48)  # another width than the query's, for which torch builds the square
    assert peak_memory(lambda: nn.functional.scaled_dot_product_attention(q, q, v), CPU) > 512 * 512 * 4


def test_multiples_of_a_copy() -> None:
    class Slow(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            for _ in range(20):
                x = x.sin()
            return x

    shape = (4, 64, 32, 32)
    copy = benchmark_module(Copy(), shape, CPU, 0.05)
    slow = benchmark_module(Slow(), shape, CPU, 0.05).relative_to(copy)
    assert slow.forward.median > 5
    assert slow.training.median > 2
    own = copy.relative_to(copy)
    assert (own.forward.median, own.training.median, own.memory) == (1.0, 1.0, 1.0)
    assert 0 < own.forward.lower <= 1 <= own.forward.upper


def test_a_block_is_measured_as_it_starts() -> None:
    speed = benchmark_block(BlockSpec("cbam"), (2, 32, 8, 8), CPU, 0.01)
    assert speed.memory > 2 * 32 * 8 * 8 * 4
    assert 0 < speed.forward.median < speed.training.median
    with pytest.raises(ValueError, match="cbam needs more than one position"):
        benchmark_block(BlockSpec("cbam"), (2, 32, 1, 1), CPU)
