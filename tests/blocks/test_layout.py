"""Blocks on other layouts, against permutations made by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec, build_block
from tests.each import each

from .helpers import ALONE, FLAT, POOLING, SPATIAL, Array, at_random, sigmoid, weights


@pytest.fixture(autouse=True)
def double() -> Iterator[None]:
    """Compare in double precision: in single, a softmax tells layouts apart by how their sums were rounded."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def built(name: str, layout: str, **place: object) -> tuple[nn.Module, nn.Module]:
    """Build a block for a layout at random, and the same one for (N, C, H, W)."""
    named = BlockSpec(name, {}, "paper")
    module = at_random(build_block(named, 8, layout=layout, **place)).eval()  # type: ignore[arg-type]
    plain = build_block(named, 8).eval()
    plain.load_state_dict(dict(zip(plain.state_dict(), module.state_dict().values(), strict=True)))
    return module.double(), plain.double()  # in single precision a softmax tells one order of summing from another


def same(got: Tensor, expected: Tensor) -> None:
    """Compare up to the order in which means are summed, which follows the strides."""
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", ALONE)
def test_channels_last_maps(name: str) -> None:
    module, plain = built(name, "NHWC")
    x = torch.randn(2, 5, 7, 8).double()
    same(module(x), plain(x.permute(0, 3, 1, 2).contiguous()).permute(0, 2, 3, 1))


@torch.no_grad()
@pytest.mark.parametrize("name", ALONE)
@each("prefix", [0, 1, 2, 5])
@each("grid", [(6, 6), (4, 9), (1, 7)])
def test_tokens(name: str, prefix: int, grid: tuple[int, int]) -> None:
    count = grid[0] * grid[1]
    module, plain = built(name, "NLC", prefix=prefix, grid=grid, positions=count + prefix)
    x = torch.randn(2, prefix + count, 8).double()
    got = module(x)
    maps = torch.empty(2, 8, *grid).double()
    for row in range(grid[0]):
        for column in range(grid[1]):
            maps[:, :, row, column] = x[:, prefix + row * grid[1] + column]
    attended, expected = plain(maps), torch.empty(2, count, 8).double()
    for row in range(grid[0]):
        for column in range(grid[1]):
            expected[:, row * grid[1] + column] = attended[:, :, row, column]
    assert torch.equal(got[:, :prefix], x[:, :prefix])
    same(got[:, prefix:], expected)


@torch.no_grad()
@pytest.mark.parametrize("name", ALONE)
def test_tokens_of_another_size_keep_the_aspect_ratio(name: str) -> None:
    module, plain = built(name, "NLC", prefix=1, grid=(4, 6), positions=25)
    x = torch.randn(2, 1 + 8 * 12, 8).double()
    maps = x[:, 1:].reshape(2, 8, 12, 8).permute(0, 3, 1, 2).contiguous()
    same(module(x)[:, 1:], plain(maps).flatten(2).permute(0, 2, 1))


def test_an_option_may_need_a_map() -> None:
    spec, x = BlockSpec("mhsa", {"position": "relative"}), torch.randn(2, 25, 32)
    assert torch.equal(build_block(spec, 32, layout="NLC", prefix=1, grid=(4, 6))(x), x)
    with pytest.raises(ValueError, match=r"mhsa runs on maps \(N, C, H, W\), not on NCL"):
        build_block(spec, 32, layout="NCL", positions=9)
    with pytest.raises(ValueError, match="mhsa needs a map, which these tokens do not form"):
        build_block(spec, 32, layout="NLC", positions=9)
    assert build_block(BlockSpec("mhsa"), 32, layout="NCL", positions=9)(x.transpose(1, 2)).shape == (2, 32, 25)


@pytest.mark.parametrize("count", [23, 26, 97])
def test_tokens_that_form_no_map(count: int) -> None:
    module, _ = built("cbam", "NLC", prefix=1, grid=(4, 6), positions=25)
    with pytest.raises(ValueError, match=f"{count} tokens form no map with the aspect ratio 4:6"):
        module(torch.randn(1, 1 + count, 8))


@torch.no_grad()
@pytest.mark.parametrize("name", FLAT)
def test_blocks_without_a_map_take_any_number_of_tokens(name: str) -> None:
    module, plain = built(name, "NLC", prefix=1, grid=(4, 6), positions=25)
    x = torch.randn(2, 24, 8).double()
    got = module(x)
    assert torch.equal(got[:, :1], x[:, :1])
    same(got[:, 1:], plain(x[:, 1:].permute(0, 2, 1)[..., None].contiguous())[..., 0].permute(0, 2, 1))


@torch.no_grad()
@pytest.mark.parametrize("name", FLAT)
@each(
    ("layout", "shape"), [("NC", (3, 8)), ("NCL", (2, 8, 11)), ("NCDHW", (2, 8, 3, 4, 5)), ("NDHWC", (2, 3, 4, 5, 8))]
)
def test_other_layouts(name: str, layout: str, shape: tuple[int, ...]) -> None:
    if layout == "NC" and name not in POOLING:
        with pytest.raises(ValueError, match=f"{name} needs more than one position"):
            built(name, layout)
        return
    module, plain = built(name, layout)
    x = torch.randn(shape).double()
    axis = layout.index("C")
    flat = x.movedim(axis, 1).reshape(shape[0], 8, -1, 1).contiguous()
    expected = plain(flat).reshape(x.movedim(axis, 1).shape).movedim(1, axis)
    same(module(x), expected)


GATES: dict[str, Callable[[Array, dict[str, Array]], Array]] = {
    "se": lambda x, w: dense(np.maximum(dense(x.mean(1), w, "fc1"), 0), w, "fc2"),
    "eca": lambda x, w: np.convolve(x.mean(1), w["conv.weight"].ravel()[::-1], "same"),
    "channel": lambda x, w: sum(
        (dense(np.maximum(dense(pooled, w, "mlp.0"), 0), w, "mlp.2") for pooled in (x.mean(1), x.max(1))), np.zeros(8)
    ),
}


def dense(vector: Array, w: dict[str, Array], name: str) -> Array:
    found: Array = w[f"{name}.weight"].reshape(-1, len(vector)) @ vector + w[f"{name}.bias"]
    return found


@torch.no_grad()
@pytest.mark.parametrize("name", GATES)
@each(
    ("layout", "shape"),
    [
        ("NC", (3, 8)),
        ("NCL", (2, 8, 11)),
        ("NLC", (2, 11, 8)),
        ("NHWC", (2, 4, 5, 8)),
        ("NCDHW", (2, 8, 3, 4, 5)),
        ("NDHWC", (2, 3, 4, 5, 8)),
    ],
)
def test_one_gate_for_each_channel_in_any_number_of_dimensions(name: str, layout: str, shape: tuple[int, ...]) -> None:
    module, plain = built(name, layout)
    x = torch.randn(shape).double()
    got = module(x).numpy()
    axis = layout.index("C") - 1
    for image, attended in zip(x.double().numpy(), got, strict=True):
        z = GATES[name](np.moveaxis(image, axis, 0).reshape(8, -1), weights(plain))
        along = [8 if place == axis else 1 for place in range(image.ndim)]
        np.testing.assert_allclose(attended, image * sigmoid(z).reshape(along), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [name for name in SPATIAL if name in ALONE])
@each(
    ("place", "reason"),
    [
        ({"layout": "NCHW", "positions": 1}, "needs more than one position"),
        ({"layout": "NLC", "grid": None, "positions": 24}, "needs a map, which these tokens do not form"),
        ({"layout": "NC", "positions": 1}, "needs more than one position"),
        ({"layout": "NCL", "positions": 9}, r"runs on maps \(N, C, H, W\), not on NCL"),
        ({"layout": "NCDHW", "positions": 9}, r"runs on maps \(N, C, H, W\), not on NCDHW"),
    ],
)
def test_spatial_blocks_refuse_what_is_no_map(name: str, place: dict[str, object], reason: str) -> None:
    with pytest.raises(ValueError, match=f"{name} {reason}"):
        build_block(BlockSpec(name), 32, **place)  # type: ignore[arg-type]


@torch.no_grad()
@pytest.mark.parametrize("name", ALONE)
@each(("layout", "shape"), [("NHWC", (2, 5, 7, 32)), ("NLC", (2, 37, 32))])
def test_identity_in_other_layouts(name: str, layout: str, shape: tuple[int, ...]) -> None:
    module = build_block(BlockSpec(name), 32, layout=layout, prefix=2, grid=(5, 7), positions=35)
    x = torch.randn(shape, dtype=torch.float32)
    assert torch.equal(module.float()(x), x)
    assert torch.equal(module.bfloat16()(x.bfloat16()), x.bfloat16())
