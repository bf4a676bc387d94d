"""Blocks of two inputs against their papers' formulas, written a second time with loops over positions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec, Second, build_block
from attn_surgeon.blocks.registry import get_class
from attn_surgeon.report.cost import Cost, block_cost

from .helpers import PAIRS, Array, at_random, batch_norm, bits, block, sigmoid, still, weights

DTYPES = [torch.float32, torch.bfloat16, torch.float16]


def gate(x: Array, g: Array, w: dict[str, Array]) -> Array:
    y = np.empty_like(x)
    for row in range(x.shape[2]):
        for column in range(x.shape[3]):
            of_x = batch_norm(x[:, :, row, column] @ w["conv_x.weight"][:, :, 0, 0].T, w, "bn_x")
            of_g = batch_norm(g[:, :, row, column] @ w["conv_g.weight"][:, :, 0, 0].T, w, "bn_g")
            z = batch_norm(np.maximum(of_x + of_g, 0) @ w["psi.weight"][:, :, 0, 0].T, w, "bn")
            y[:, :, row, column] = x[:, :, row, column] * sigmoid(z)
    return y


def layer_norm(x: Array, w: dict[str, Array], name: str) -> Array:
    normal = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    scaled: Array = normal * w[f"{name}.weight"][:, None, None] + w[f"{name}.bias"][:, None, None]
    return scaled


def strips(x: Array, w: dict[str, Array], name: str) -> Array:
    total = np.zeros_like(x)
    for index, (high, wide) in enumerate([(1, 7), (1, 11), (1, 21), (7, 1), (11, 1), (21, 1)]):
        kernel = w[f"{name}.{index}.weight"]
        assert kernel.shape == (x.shape[1], 1, high, wide)
        padded = np.pad(x, ((0, 0), (0, 0), (high // 2, high // 2), (wide // 2, wide // 2)))
        for row, column in np.ndindex(*x.shape[2:]):
            window = padded[:, :, row : row + high, column : column + wide]
            total[:, :, row, column] += (window * kernel[:, 0]).sum((2, 3)) + w[f"{name}.{index}.bias"]
    return total


def project(x: Array, w: dict[str, Array]) -> Array:
    projected: Array = np.einsum("oc,nchw->nohw", w["project.weight"][:, :, 0, 0], x)
    return projected + w["project.bias"][:, None, None]


def answer(query: Array, source: Array, heads: int) -> Array:
    """Attend from the rows of one map (N, C, H, W) to those of the other."""
    y, size = np.empty_like(query), query.shape[1] // heads
    for n, head, row in np.ndindex(len(query), heads, query.shape[2]):
        group = slice(head * size, (head + 1) * size)
        own = query[n, group, row] / np.linalg.norm(query[n, group, row])
        others = [source[n, group, other] for other in range(query.shape[2])]
        likeness = np.exp([(own * other / np.linalg.norm(other)).sum() for other in others])
        mixed = sum(share * other for share, other in zip(likeness / likeness.sum(), others, strict=True))
        y[n, group, row] = mixed + own
    return y


def mdaf(x: Array, y: Array, w: dict[str, Array], heads: int = 8) -> Array:
    normal_x, normal_y = layer_norm(x, w, "norm_x"), layer_norm(y, w, "norm_y")
    u, v = project(strips(normal_x, w, "strips_x"), w), project(strips(normal_y, w, "strips_y"), w)
    rows = answer(v, u, heads)
    columns = answer(u.swapaxes(2, 3), v.swapaxes(2, 3), heads).swapaxes(2, 3)
    return project(rows, w) + project(columns, w) + normal_x + normal_y


FORMULAS: dict[str, Callable[[Array, Array, dict[str, Array]], Array]] = {"gate": gate, "mdaf": mdaf}


def pair(channels: int = 16, size: tuple[int, int] = (5, 9)) -> tuple[Tensor, Tensor]:
    first, second = torch.randn(2, 3, channels, *size)
    return first, second


def raw(name: str, channels: int = 16, init: str = "identity", **options: int) -> nn.Module:
    return get_class(name)(channels, init=init, **options).eval()


@torch.no_grad()
@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("size", [(5, 9), (1, 4), (26, 3)])
def test_published_formula(name: str, size: tuple[int, int]) -> None:
    module = at_random(raw(name, init="paper")).double()
    x, y = (each.double() for each in pair(size=size))
    expected = FORMULAS[name](x.numpy(), y.numpy(), weights(module))
    np.testing.assert_allclose(module(x, y).numpy(), expected, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_formula_of_identity_starts_once_open() -> None:
    x, y = (each.double() for each in pair())
    opened = {name: at_random(raw(name)).double() for name in PAIRS}
    doubled = 2 * gate(x.numpy(), y.numpy(), weights(opened["gate"]))
    np.testing.assert_allclose(opened["gate"](x, y).numpy(), doubled, rtol=1e-6, atol=1e-6)
    w = weights(opened["mdaf"])
    blended = x.numpy() + w["outer.gamma"] * (mdaf(x.numpy(), y.numpy(), w) - x.numpy())
    np.testing.assert_allclose(opened["mdaf"](x, y).numpy(), blended, rtol=1e-6, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("heads", [1, 2, 16])
def test_heads(heads: int) -> None:
    module = at_random(raw("mdaf", init="paper", heads=heads)).double()
    x, y = (each.double() for each in pair())
    expected = mdaf(x.numpy(), y.numpy(), weights(module), heads)
    np.testing.assert_allclose(module(x, y).numpy(), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("channels", "heads"), [(12, 8), (16, 3), (4, 8)])
def test_heads_that_do_not_divide_the_channels(channels: int, heads: int) -> None:
    with pytest.raises(ValueError, match=f"it has {channels} channels, which heads={heads} does not divide"):
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
@pytest.mark.parametrize("name", PAIRS)
def test_without_another_the_block_sees_the_same_map_twice(name: str) -> None:
    module = at_random(block(name, 16, "paper")).eval()
    plain = raw(name, init="paper")
    plain.load_state_dict({key.removeprefix("block."): value for key, value in module.state_dict().items()})
    x, _ = pair()
    assert torch.equal(module(x), plain(x, x))


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("other", [Second(16), Second(6, "NLC", 1, (2, 3))])
def test_every_parameter_moves_within_two_steps(name: str, training: bool, other: Second) -> None:
    module = build_block(BlockSpec(name), 16, other=other).train(training)
    x, y = pair()
    y = y if other.layout == "NCHW" else torch.randn(3, 7, 6)
    assert still(module, x, y) == set()


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("level", [-50, 0, 50])
def test_gates_of_few_channels_learn_whatever_the_sign_of_their_features(channels: int, level: float) -> None:
    module = build_block(BlockSpec("gate"), channels, other=Second(channels)).eval()
    assert still(module, *(level + each for each in pair(channels))) == set()


def test_costs_are_those_on_the_cards() -> None:
    channels, hidden, positions = 64, 32, 7 * 5
    expected = {
        "gate": Cost(2 * channels * hidden + 5 * hidden + 2, (2 * channels * hidden + hidden) * positions),
        "mdaf": Cost(
            channels**2 + 173 * channels + channels,
            (4 * channels**2 + 156 * channels + 2 * channels * (7 + 5)) * positions,
        ),
        "coord": Cost(3 * channels * 8 + 2 * 8 + 2 * channels, 2 * channels * 8 * (7 + 5)),
    }
    for name, cost in expected.items():
        assert block_cost(block(name, channels), (1, channels, 7, 5)) == cost
