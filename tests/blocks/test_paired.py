"""The second input of a block, brought to the first one's shape."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec, SecondInput, block_names, build_block, get_card
from attn_surgeon.blocks.base.registry import get_factory
from attn_surgeon.blocks.base.two_inputs import WithSecondInput

from .helpers import ALONE, NAMES, PAIRS, at_random, bits

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
SECONDS = {
    "same": (SecondInput(16), (2, 16, 6, 10)),
    "coarser": (SecondInput(16), (2, 16, 3, 5)),
    "finer": (SecondInput(16), (2, 16, 13, 17)),
    "narrower": (SecondInput(16), (2, 16, 6, 4)),
    "higher": (SecondInput(16), (2, 16, 9, 10)),
    "one position": (SecondInput(16), (2, 16, 1, 1)),
    "other channels": (SecondInput(5), (2, 5, 6, 10)),
    "channels last": (SecondInput(24, "NHWC"), (2, 3, 4, 24)),
    "as many places as channels": (SecondInput(16, "NHWC"), (2, 16, 16, 16)),
    "tokens": (SecondInput(7, "NLC", 0, (3, 5)), (2, 15, 7)),
    "tokens after others": (SecondInput(16, "NLC", 5, (4, 2)), (2, 13, 16)),
    "tokens of another size": (SecondInput(16, "NLC", 1, (4, 2)), (2, 33, 16)),
}
SIZES = {"tokens": (3, 5), "tokens after others": (4, 2), "tokens of another size": (8, 4)}


class Report(nn.Module):
    """Gives the second of two maps."""

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        assert x.shape == y.shape
        return y


def as_map(y: Tensor, other: SecondInput, size: tuple[int, int]) -> Tensor:
    """Copy a second input into (N, C, H, W), place by place."""
    if other.layout == "NCHW":
        return y
    high, wide = (y.shape[1], y.shape[2]) if other.layout == "NHWC" else size
    maps = torch.empty(len(y), other.channels, high, wide)
    for row in range(high):
        for column in range(wide):
            place = y[:, row, column] if y.ndim == 4 else y[:, other.prefix + row * wide + column]
            maps[:, :, row, column] = place
    return maps


def interpolated(y: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample at the places' centres, each along one axis and then the other."""
    for axis, length in zip((2, 3), size, strict=True):
        there = y.shape[axis]
        lines = []
        for place in range(length):
            centre = min(max((place + 0.5) * there / length - 0.5, 0), there - 1)
            low = int(centre)
            high = min(low + 1, there - 1)
            lines.append(y.select(axis, low) * (1 - centre + low) + y.select(axis, high) * (centre - low))
        y = torch.stack(lines, axis)
    return y


@torch.no_grad()
@pytest.mark.parametrize("kind", SECONDS)
def test_the_second_comes_as_a_map_of_the_firsts_shape(kind: str) -> None:
    other, shape = SECONDS[kind]
    module, y = WithSecondInput(Report(), 16, other), torch.randn(shape)
    expected = interpolated(as_map(y, other, SIZES.get(kind, (0, 0))), (6, 10))
    if other.channels != 16:
        assert isinstance(module.project, nn.Conv2d)
        assert [name for name, _ in module.named_parameters()] == ["project.weight"]
        expected = torch.einsum("oc,nchw->nohw", module.project.weight[:, :, 0, 0], expected)
    else:
        assert not list(module.parameters())
    torch.testing.assert_close(module(torch.randn(2, 16, 6, 10), y), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_second_of_the_same_shape_is_passed_on_as_it_is() -> None:
    x, y = torch.randn(2, 16, 6, 10), torch.randn(2, 16, 6, 10)
    y[0, 0, 0, 0] = float("inf")  # which weights of 0 would turn into no number
    assert torch.equal(WithSecondInput(Report(), 16, SecondInput(16))(x, y), y)


def built(name: str, other: SecondInput, **place: object) -> tuple[nn.Module, WithSecondInput]:
    """Build a block at random for a layout of the first input, and the same one for (N, C, H, W)."""
    module = build_block(BlockSpec(name, {}, "paper"), 16, other=other, **place)  # type: ignore[arg-type]
    plain = WithSecondInput(get_factory(name)(16, init="paper"), 16, other).eval()
    at_random(module).eval()
    plain.load_state_dict(dict(zip(plain.state_dict(), module.state_dict().values(), strict=True)))
    return module, plain


@torch.no_grad()
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("kind", SECONDS)
def test_the_first_in_other_layouts(name: str, kind: str) -> None:
    other, shape = SECONDS[kind]
    x, y = torch.randn(2, 16, 6, 10), torch.randn(shape)
    module, plain = built(name, other)
    assert torch.equal(module(x, y), plain(x, y))
    module, plain = built(name, other, layout="NHWC")
    got = module(x.permute(0, 2, 3, 1).contiguous(), y).permute(0, 3, 1, 2)
    torch.testing.assert_close(got, plain(x, y), rtol=1e-4, atol=1e-4)
    module, plain = built(name, other, layout="NLC", prefix=3, grid=(6, 10))
    tokens = torch.cat((torch.randn(2, 3, 16), x.flatten(2).transpose(1, 2)), 1)
    got = module(tokens, y)
    assert torch.equal(got[:, :3], tokens[:, :3])
    expected = plain(x, y).flatten(2).transpose(1, 2)
    torch.testing.assert_close(got[:, 3:], expected, rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("kind", SECONDS)
def test_identity(name: str, dtype: torch.dtype, kind: str) -> None:
    other, shape = SECONDS[kind]
    x, y = torch.randn(2, 16, 6, 10).to(dtype), torch.randn(shape)
    x[0, 0, 0] = -0.0
    module = build_block(BlockSpec(name), 16, other=other).to(dtype).eval()
    assert torch.equal(bits(module(x, y.to(dtype))), bits(x))
    assert torch.equal(bits(module(x, y)), bits(x))  # a second in another precision than the first
    tokens = torch.randn(2, 62, 16).to(dtype)
    module = build_block(BlockSpec(name), 16, layout="NLC", prefix=2, grid=(6, 10), other=other).to(dtype).train()
    assert torch.equal(bits(module(tokens, y.to(dtype))), bits(tokens))


@torch.no_grad()
@pytest.mark.parametrize("name", PAIRS)
def test_sizes_are_found_at_run_time(name: str) -> None:
    module, plain = built(name, SecondInput(8, "NLC", 1, (2, 3)), layout="NHWC")
    for size, grid in [((4, 6), (2, 3)), ((7, 5), (4, 6)), ((1, 9), (2, 3))]:
        x, y = torch.randn(1, 16, *size), torch.randn(1, 1 + grid[0] * grid[1], 8)
        got = module(x.permute(0, 2, 3, 1), y)
        torch.testing.assert_close(got.permute(0, 3, 1, 2), plain(x, y), rtol=1e-4, atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in PAIRS if name in ALONE])
@pytest.mark.parametrize("layout", ["NCHW", "NHWC", "NLC"])
def test_without_another_in_other_layouts(name: str, layout: str) -> None:
    module = build_block(BlockSpec(name, {}, "paper"), 16, layout=layout, prefix=1, grid=(6, 10))
    plain = get_factory(name)(16, init="paper").eval()
    at_random(module).eval()
    plain.load_state_dict(dict(zip(plain.state_dict(), module.state_dict().values(), strict=True)))
    x = torch.randn(2, 16, 6, 10)
    torch.testing.assert_close(module(laid_out(x, layout)), laid_out(plain(x, x), layout), rtol=1e-4, atol=1e-4)


def laid_out(x: Tensor, layout: str) -> Tensor:
    """Lay out a map otherwise, as tokens after one of zeros."""
    if layout == "NLC":
        return torch.cat((torch.zeros(len(x), 1, x.shape[1]), x.flatten(2).transpose(1, 2)), 1)
    return x.permute(0, 2, 3, 1).contiguous() if layout == "NHWC" else x


@pytest.mark.parametrize("name", [name for name in NAMES if name not in PAIRS])
def test_a_block_of_one_input_takes_no_second(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} takes one input$"):
        build_block(BlockSpec(name), 32, other=SecondInput(32))


def test_cards_have_the_number_of_inputs() -> None:
    assert {name: get_card(name).inputs for name in block_names()} == {name: 1 + (name in PAIRS) for name in NAMES}


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(
    ("other", "reason"),
    [
        (SecondInput(8, "NLC"), "needs a map as its second input, which those tokens do not form"),
        (SecondInput(8, "NC"), r"takes a map \(N, C, H, W\) as its second input, not NC"),
        (SecondInput(8, "NCL"), r"takes a map \(N, C, H, W\) as its second input, not NCL"),
        (SecondInput(8, "NDHWC"), r"takes a map \(N, C, H, W\) as its second input, not NDHWC"),
    ],
)
def test_seconds_that_are_no_map(name: str, other: SecondInput, reason: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} {reason}$"):
        build_block(BlockSpec(name), 32, other=other)
