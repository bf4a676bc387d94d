"""At its identity start a block gives its input back, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from .helpers import NAMES, POOLING, bits, block, still

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


def assert_identity(name: str, x: Tensor, *, training: bool = False) -> None:
    module = block(name, x.shape[1]).to(x.dtype).train(training)
    with torch.no_grad():
        y = module(x)
    assert y.dtype == x.dtype
    assert torch.equal(bits(y), bits(x))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", INPUTS)
def test_identity(name: str, dtype: torch.dtype, kind: str) -> None:
    for shape in SIZES:
        assert_identity(name, INPUTS[kind](shape).to(dtype))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", INPUTS)
def test_identity_in_train_mode(name: str, kind: str) -> None:
    for shape in SIZES:
        assert_identity(name, INPUTS[kind](shape), training=True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", INPUTS)
def test_identity_under_autocast(name: str, kind: str) -> None:
    for shape in SIZES:
        with torch.autocast("cpu", torch.bfloat16):
            assert_identity(name, INPUTS[kind](shape))


@pytest.mark.parametrize("name", POOLING)
@pytest.mark.parametrize("dtype", DTYPES)
def test_identity_on_one_position(name: str, dtype: torch.dtype) -> None:
    assert_identity(name, torch.randn(1, 64, 1, 1).to(dtype))


@pytest.mark.parametrize("name", ["se", "channel", "cbam"])
@pytest.mark.parametrize("reduction", [1, 3, 21, 64])
@pytest.mark.parametrize("dtype", DTYPES)
def test_identity_with_a_hidden_layer_of_any_width(name: str, reduction: int, dtype: torch.dtype) -> None:
    x = torch.full((1, 64, 4, 4), 1e4).to(dtype)
    module = block(name, 64, reduction=reduction).to(dtype).eval()
    with torch.no_grad():
        assert torch.equal(module(x), x)


@pytest.mark.parametrize("name", ["se", "channel", "cbam"])
def test_one_hidden_unit_over_many_channels_in_half_precision(name: str) -> None:
    x = torch.full((1, 1024, 2, 2), 1e4, dtype=torch.float16)
    module = block(name, 1024, reduction=1024).half().eval()
    with torch.no_grad():
        assert torch.equal(module(x), x)


@pytest.mark.parametrize("name", NAMES)
def test_strides_are_kept(name: str) -> None:
    x = torch.randn(2, 32, 6, 6).to(memory_format=torch.channels_last)
    assert block(name, 32)(x).stride() == x.stride()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "mdaf"])
def test_paper_start_is_not_the_identity(name: str) -> None:
    x = torch.randn(2, 32, 6, 6)
    y = block(name, 32, "paper").eval()(x)
    assert bool((y.abs() < x.abs()).all())
    assert bool((y.sign() == x.sign()).all())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("training", [True, False])
def test_every_parameter_moves_within_two_steps(name: str, training: bool) -> None:
    module, x = block(name, 48).train(training), torch.randn(4, 48, 6, 6)
    assert still(module, x) == set()
