"""What axes mean, told from two sizes of the input or from the parameters nearby."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from torch import nn

from attn_surgeon.surgery.sites.layouts import Feature, read_feature
from attn_surgeon.surgery.sites.survey import Site, find_sites
from tests import toy_networks

from ..helpers import block_at, grafted, identical, image, opened


def site(model: nn.Module, name: str, size: int = 64) -> Site:
    (found,) = [each for each in find_sites(model, image(2, 3, size)) if each.name == name]
    return found


def layout(feature: Feature | None) -> tuple[str, int, int, tuple[int, int] | None]:
    assert feature is not None
    return feature.layout, feature.channels, feature.prefix, feature.grid


@pytest.mark.parametrize("one_size", [False, True])
@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_tokens(prefix: int, one_size: bool) -> None:
    net: nn.Module = toy_networks.Tokens(prefix)
    name = "inner.block" if one_size else "block"
    net = toy_networks.OneSize(net, 64) if one_size else net
    assert layout(site(net, name).output) == ("NLC", 8, prefix, (16, 16))


@pytest.mark.parametrize("one_size", [False, True])
def test_channels_last_maps(one_size: bool) -> None:
    net: nn.Module = toy_networks.ChannelsLast()
    name = "inner.block" if one_size else "block"
    net = toy_networks.OneSize(net, 64) if one_size else net
    assert layout(site(net, name).output) == ("NHWC", 8, 0, None)


@pytest.mark.parametrize("one_size", [False, True])
def test_maps_and_vectors(one_size: bool) -> None:
    net: nn.Module = toy_networks.Root(toy_networks.Residual())
    prefix, net = ("inner.", toy_networks.OneSize(net, 8)) if one_size else ("", net)
    sites = {each.name.removeprefix(prefix): each for each in find_sites(net, image())}
    assert layout(sites["stage"].output) == ("NCHW", 4, 0, None)
    assert layout(sites["mean"].output) == ("NC", 4, 0, None)
    assert layout(sites["fc"].input) == ("NC", 4, 0, None)
    assert layout(sites["fc"].output) == ("NC", 3, 0, None)


@pytest.mark.parametrize(
    ("shape", "probe", "vectors", "expected"),
    [
        ((2, 8, 8, 8), (2, 8, 4, 4), {}, "NCHW"),
        ((2, 8, 8, 8), (2, 4, 4, 8), {}, "NHWC"),
        ((2, 8, 8, 8), None, {8: 1}, "NCHW"),
        ((2, 7, 7, 8), None, {8: 1}, "NHWC"),
        ((2, 8, 7, 7), None, {8: 1}, "NCHW"),
        ((2, 8, 49), (2, 8, 196), {}, "NCL"),
        ((2, 49, 8), (2, 196, 8), {}, "NLC"),
        ((2, 8, 49), None, {8: 3, 49: 1}, "NCL"),
        ((2, 8, 49), None, {}, "NCL"),
        ((2, 49, 8), None, {}, "NLC"),
        ((2, 8, 4, 6, 6), (2, 8, 4, 3, 3), {8: 1}, "NCDHW"),
        ((2, 4, 6, 6, 8), None, {8: 1}, "NDHWC"),
        ((2, 8), (2, 8), {}, "NC"),
    ],
)
def test_layouts(shape: tuple[int, ...], probe: tuple[int, ...] | None, vectors: dict[int, int], expected: str) -> None:
    feature = read_feature(shape, "float32", resized=probe, vectors=Counter(vectors), images=[(28, 28)])
    assert feature is not None
    assert feature.layout == expected
    assert feature.channels == shape[expected.index("C")]


@pytest.mark.parametrize(
    ("shape", "dtype"), [((2,), "float32"), ((2, 3), "int64"), ((2, 0, 4), "float32"), ((), "bool")]
)
def test_what_is_no_feature(shape: tuple[int, ...], dtype: str) -> None:
    assert read_feature(shape, dtype, resized=None, vectors=Counter(), images=[(8, 8)]) is None


def test_grid_of_an_image_that_is_not_square() -> None:
    images, vectors = [(32, 48), (64, 96)], Counter({8: 2})
    feature = read_feature((1, 25, 8), "float32", resized=(1, 97, 8), vectors=vectors, images=images)
    assert layout(feature) == ("NLC", 8, 1, (4, 6))


def test_empty_maps_among_the_grids() -> None:
    grids, vectors = [{(0, 3), (4, 4)}], Counter({8: 2})
    feature = read_feature((2, 4, 4, 8), "float32", resized=None, vectors=vectors, images=[(8, 8)], grids=grids)
    assert feature is not None
    assert feature.layout == "NHWC"


def test_positions() -> None:
    assert Feature((2, 8, 5, 7), "float32", "NCHW", 8).positions == 35
    assert Feature((2, 35, 8), "float32", "NLC", 8).positions == 35
    assert Feature((2, 8), "float32", "NC", 8).positions == 1


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_block_runs_on_the_map_of_the_tokens(prefix: int) -> None:
    net, x = toy_networks.Tokens(prefix), image(2, 3, 32)
    model = opened(net, "block", block="cbam", example=x).eval()
    adapter = block_at(model, "block")
    inner = adapter.get_submodule("block")
    with torch.no_grad():
        tokens = net(x)
        maps = torch.stack([tokens[:, prefix + n] for n in range(64)], -1).reshape(2, 8, 8, 8)
        attended = inner(maps).reshape(2, 8, 64).permute(0, 2, 1)
        got = model(x)
        assert torch.equal(got[:, :prefix], tokens[:, :prefix])
        # the hand-made map is contiguous, so its means are summed in another order
        torch.testing.assert_close(got[:, prefix:], attended, rtol=1e-5, atol=1e-6)


def test_block_runs_on_channels_that_come_last() -> None:
    net, x = toy_networks.ChannelsLast(), image(2, 3, 32)
    model = opened(net, "block", block="cbam", example=x).eval()
    inner = block_at(model, "block").get_submodule("block")
    with torch.no_grad():
        y = net.block(net.embed(x).permute(0, 2, 3, 1))
        assert torch.equal(model(x), inner(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).mean((1, 2)))


@pytest.mark.parametrize("size", [32, 64, 96])
def test_identity_at_sizes_other_than_the_examples(size: int) -> None:
    net = toy_networks.Tokens(1)
    model = grafted(net, ["block", "block.fc"], block="cbam", example=image(2, 3, 64))
    assert identical(net, model, image(2, 3, size))
