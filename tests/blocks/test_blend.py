"""The outer identity x + γ(f − x): x bit for bit whatever f is, and γ learns from the first step."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attn_surgeon.blocks.base.gate import Blend

from .helpers import bits

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize("dtype", DTYPES)
def test_identity_bit_for_bit(dtype: torch.dtype) -> None:
    largest, smallest = torch.finfo(dtype).max, torch.finfo(dtype).smallest_normal
    values = torch.tensor([NAN, 0.0, -0.0, 1.0, -3.7, smallest, -smallest, largest, -largest, INF, -INF]).to(dtype)
    x, made = (grid.reshape(1, 1, 11, 11) for grid in torch.meshgrid(values, values, indexing="ij"))
    blended = Blend(1, "identity").to(dtype)(x, made)
    assert torch.equal(bits(blended[:, :, 1:]), bits(x[:, :, 1:]))
    assert bool(blended[:, :, 0].isnan().all())


def test_gamma_has_the_gradient_of_the_formula() -> None:
    x, made, slope = torch.randn(3, 2, 4, 5, 6, dtype=torch.float64).unbind()
    outer: Any = Blend(4, "identity").double()
    (outer(x, made) * slope).sum().backward()
    assert outer.gamma is not None
    assert outer.gamma.grad is not None
    expected = torch.einsum("nchw,nchw->c", slope, made - x)
    torch.testing.assert_close(outer.gamma.grad.flatten(), expected)


def test_places_without_a_finite_value_keep_x_and_the_others_learn() -> None:
    x, made = torch.randn(1, 2, 3, 3), torch.randn(1, 2, 3, 3)
    made[0, 0, 1, 1], made[0, 1, 0, 2] = INF, NAN
    outer: Any = Blend(2, "identity")
    assert outer.gamma is not None
    torch.nn.init.constant_(outer.gamma, 0.5)
    blended = outer(x, made)
    finite = made.isfinite()
    assert torch.equal(blended[~finite], x[~finite])
    torch.testing.assert_close(blended[finite], (x + made)[finite] / 2)
    blended.sum().backward()
    assert outer.gamma.grad is not None
    torch.testing.assert_close(outer.gamma.grad.sum(), (made - x)[finite].sum())


def test_what_the_block_made_learns_once_gamma_is_open() -> None:
    x, made = torch.randn(1, 3, 2, 2), torch.randn(1, 3, 2, 2, requires_grad=True)
    outer: Any = Blend(3, "identity")
    assert outer.gamma is not None
    with torch.no_grad():
        outer.gamma.copy_(torch.tensor([0.0, 0.25, -2.0]).reshape(3, 1, 1))
    outer(x, made).sum().backward()
    assert made.grad is not None
    assert torch.equal(made.grad, outer.gamma.detach().expand(1, 3, 2, 2))


def test_paper_init_returns_the_output_of_the_block() -> None:
    outer: Any = Blend(2, "paper")
    x, made = torch.randn(1, 2, 3, 3).bfloat16(), torch.randn(1, 2, 3, 3)
    assert torch.equal(outer(x, made), made.bfloat16())
    assert not list(outer.parameters())


def test_the_precision_is_that_of_x() -> None:
    x = torch.randn(1, 2, 3, 3).half()
    blended = Blend(2, "identity")(x, torch.randn(1, 2, 3, 3))
    assert blended.dtype == torch.float16
    assert torch.equal(blended, x)
