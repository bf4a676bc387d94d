"""One block runs at every size, also compiled and exported."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from .helpers import NAMES, at_random, bits, block

SIZES = [(7, 7), (14, 14), (20, 31), (3, 2)]
DROPPING = {"hard"}  # what is dropped does not show in the output


OPTIONS: dict[str, dict[str, Any]] = {
    "halo": {"heads": 1}
}  # otherwise it works in four parts, and the compilers reason on each of them for long


def published(name: str, channels: int) -> nn.Module:
    """Build a block by the published formula with tame weights at random."""
    module = at_random(block(name, channels, "paper", **OPTIONS.get(name, {}))).eval()
    for parameter in module.parameters():
        parameter.data *= 0.3
    return module


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_one_instance_runs_at_every_size(name: str) -> None:
    module = published(name, 24).double()
    for size in SIZES:
        x = torch.randn(2, 24, *size).double()
        together = module(x)
        assert together.shape == x.shape
        assert bool(together.isfinite().all())
        alone = torch.cat([module(each[None]) for each in x])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)  # one image does not see another
        torch.testing.assert_close(module(x.clone()), together, rtol=0, atol=0)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in NAMES if name not in DROPPING])
def test_the_output_depends_on_the_whole_input(name: str) -> None:
    """A block that dropped a channel or a position would not notice a change there."""
    module, x = published(name, 16), torch.randn(1, 16, 9, 11)
    before = module(x)
    for channel, row, column in [(0, 0, 0), (15, 8, 10), (7, 8, 0), (3, 4, 5)]:
        changed = x.clone()
        changed[0, channel, row, column] += 3
        assert not torch.equal(module(changed), before)


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_compiled(name: str) -> None:
    module, x = block(name, 16, **OPTIONS.get(name, {})).eval(), torch.randn(2, 16, 6, 7)
    compiled = torch.compile(module, backend="aot_eager", fullgraph=True, dynamic=True)
    assert torch.equal(bits(compiled(x)), bits(x))
    torch._dynamo.reset()
