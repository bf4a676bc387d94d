"""At its identity start a block gives its input back, bit for bit."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from attn_surgeon.blocks import get_card
from tests.each import each

from .helpers import NAMES, POOLING, bits, block

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
Shape = tuple[int, int, int, int]
SIZES: list[Shape] = [(1, 32, 7, 13), (2, 48, 8, 8), (3, 67, 5, 5), (2, 272, 4, 4)]
INPUTS: dict[str, Callable[[Shape], Tensor]] = {
    "random": torch.randn,
    "zero": torch.zeros,
    "minus zero": lambda shape: -torch.zeros(shape),
    "constant": lambda shape: torch.full(shape, -3.7),
    "huge": lambda shape: torch.full(shape, 1e4),
    "huge and unlike": lambda shape: 1e4 * (2 * torch.rand(shape) - 1),
    "tiny": lambda shape: 1e-6 * torch.randn(shape),
}


def assert_identity(name: str, *inputs: Tensor, training: bool = False) -> None:
    """Build one block for inputs of equal channels and dtype; in train mode each has a block of its own."""
    module = block(name, inputs[0].shape[1]).to(inputs[0].dtype).train(training)
    for place, x in enumerate(inputs):
        with torch.no_grad():
            y = (copy.deepcopy(module) if training else module)(x)
        assert y.dtype == x.dtype, place
        assert torch.equal(bits(y), bits(x)), place


@pytest.mark.parametrize("name", NAMES)
@each("dtype", DTYPES)
@each("shape", SIZES)
def test_identity(name: str, dtype: torch.dtype, shape: Shape) -> None:
    assert_identity(name, *(make(shape).to(dtype) for make in INPUTS.values()))


@pytest.mark.parametrize("name", NAMES)
@each("shape", SIZES)
def test_identity_in_train_mode(name: str, shape: Shape) -> None:
    assert_identity(name, *(make(shape) for make in INPUTS.values()), training=True)


@pytest.mark.parametrize("name", NAMES)
@each("shape", SIZES)
def test_identity_under_autocast(name: str, shape: Shape) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        assert_identity(name, *(make(shape) for make in INPUTS.values()))


@pytest.mark.parametrize("name", NAMES)
@each("channels", [1, 2, 3, 5, 7, 20, 96])
@each("dtype", DTYPES)
def test_identity_with_any_number_of_channels(name: str, channels: int, dtype: torch.dtype) -> None:
    levels = [(level * torch.randn(1, channels, 5, 3)).to(dtype) for level in (1.0, 1e4)]
    for training in {False, dtype == torch.float32}:
        assert_identity(name, *levels, training=training)


@pytest.mark.parametrize("name", NAMES)
def test_identity_with_very_many_channels(name: str) -> None:
    assert_identity(name, torch.randn(1, 2048, 2, 3).to(torch.float16))


@pytest.mark.parametrize("name", NAMES)
@each("dtype", DTYPES)
def test_identity_on_narrow_maps(name: str, dtype: torch.dtype) -> None:
    for size in [(1, 1), (1, 9), (8, 1), (2, 2), (3, 1)]:
        assert_identity(name, torch.randn(1, 24, *size).to(dtype))


@pytest.mark.parametrize("name", POOLING)
def test_identity_on_one_position_of_one_image_in_train_mode(name: str) -> None:
    assert_identity(name, torch.randn(1, 64, 1, 1), training=True)


@pytest.mark.parametrize("name", NAMES)
def test_strides_are_kept(name: str) -> None:
    x = torch.randn(2, 32, 6, 10).to(memory_format=torch.channels_last)
    module = block(name, 32).to(memory_format=torch.channels_last)
    y = module(x)
    assert torch.equal(bits(y), bits(x))
    assert y.stride() == x.stride()
    assert module(x.contiguous()).stride() == x.contiguous().stride()


@pytest.mark.parametrize("name", NAMES)
def test_identity_start_is_not_the_published_one(name: str) -> None:
    """Some papers start as the identity themselves; their cards say so."""
    x = torch.randn(2, 32, 6, 6)
    torch.manual_seed(0)
    same = torch.equal(block(name, 32, "paper").eval()(x), x)
    assert same == get_card(name).identity.startswith("as published")


@pytest.mark.parametrize("name", NAMES)
def test_blocks_are_equal_for_the_same_seed(name: str) -> None:
    x = torch.randn(2, 24, 5, 6)
    made = []
    for _ in range(2):
        torch.manual_seed(3)
        module = block(name, 24, "paper").eval()
        made.append((module(x), module(x)))
    assert torch.equal(made[0][0], made[0][1])
    assert torch.equal(made[0][0], made[1][0])
