"""Blocks of two inputs, with two that differ and with one that is both."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec, SecondInput, build_block
from attn_surgeon.blocks.base.registry import get_factory

from .helpers import ALONE, PAIRS, at_random, bits, still

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def pair(channels: int = 16, size: tuple[int, int] = (5, 9)) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, 3, channels, *size)
    return first, second


def raw(name: str, channels: int = 16, init: str = "identity") -> nn.Module:
    return get_factory(name)(channels, init=init).eval()


@pytest.mark.parametrize(("channels", "heads"), [(12, 8), (16, 3), (4, 8)])
def test_heads_that_do_not_divide_the_channels(channels: int, heads: int) -> None:
    with pytest.raises(ValueError, match=f"{channels} channels are not divisible by heads={heads}"):
        build_block(BlockSpec("mdaf", {"heads": heads}), channels)


@torch.no_grad()
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("scale", [0.0, -0.0, 1e-6, 1.0, 1e4])
def test_identity(name: str, dtype: torch.dtype, scale: float) -> None:
    module = raw(name).to(dtype)
    for size in [(5, 9), (1, 2), (8, 8)]:
        x, y = pair(size=size)
        x, y = (scale * x.abs()).to(dtype), (scale * y).to(dtype)
        for first, second in [(x, y), (-x, y), (x, -x)]:
            assert torch.equal(bits(module(first, second)), bits(first))
            if dtype == torch.float32:
                assert torch.equal(bits(module.train()(first, second)), bits(first))
                with torch.autocast("cpu", torch.bfloat16):
                    assert torch.equal(bits(module.eval()(first, second)), bits(first))


@torch.no_grad()
def test_identity_where_nothing_came_before_the_attention() -> None:
    for dtype in DTYPES:
        module = raw("mdaf").to(dtype)
        for parameter in module.parameters():
            parameter.zero_()
        x, y = (each.to(dtype) for each in pair())
        assert torch.equal(bits(module(x, y)), bits(x))
        published = raw("mdaf", init="paper").to(dtype)
        for name, parameter in published.named_parameters():
            parameter.fill_(1 if name.startswith("norm_") and name.endswith("weight") else 0)
        assert bool(published(x, y).isfinite().all())


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in PAIRS if name in ALONE])
def test_without_another_the_block_sees_the_same_map_twice(name: str) -> None:
    module = at_random(build_block(BlockSpec(name, {}, "paper"), 16)).eval()
    plain = raw(name, init="paper")
    plain.load_state_dict({key.removeprefix("block."): value for key, value in module.state_dict().items()})
    x, y = pair()
    assert torch.equal(module(x), plain(x, x))
    assert not torch.equal(module(x), plain(x, y))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("other", [SecondInput(16), SecondInput(6, "NLC", 1, (2, 3))])
def test_every_parameter_moves_within_two_steps(name: str, training: bool, other: SecondInput) -> None:
    module = build_block(BlockSpec(name), 16, other=other).train(training)
    x, y = pair()
    y = y if other.layout == "NCHW" else torch.randn(3, 7, 6)
    assert still(module, x, y) == set()


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in ALONE])
def test_a_block_that_weighs_two_tensors_needs_two(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} combines two different tensors, and there is only one"):
        build_block(BlockSpec(name), 16)
    x = torch.randn(1, 16, 5, 5)
    assert torch.equal(build_block(BlockSpec(name), 16, other=SecondInput(16))(x, -x), x)
