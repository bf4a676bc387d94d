"""Features of volumes, videos, sequences and odd grids, from the example to the certificate."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.errors import PlanError
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.certificate import certify
from attn_surgeon.surgery.sites.example_sizes import image_size, other_sizes
from attn_surgeon.surgery.sites.layouts import Feature
from attn_surgeon.surgery.sites.survey import find_sites
from tests.toy_networks import OneSize, Tokens, shapes

from ..helpers import block_at, image, opened

VOLUME = (2, 3, 4, 32, 32)


def features(net: nn.Module, x: Tensor) -> dict[str, Feature | None]:
    return {site.name: site.output for site in find_sites(net, x)}


def told(feature: Feature | None) -> tuple[str, int, int, tuple[int, int] | None]:
    assert feature is not None
    return feature.layout, feature.channels, feature.prefix, feature.grid


@pytest.mark.parametrize("size", [VOLUME, (1, 3, 8, 64, 32), (2, 3, 8, 32, 32)])
def test_volumes_and_videos(size: tuple[int, ...]) -> None:
    found = features(shapes.Volumes(), torch.randn(size))
    for name in ("stem", "norm", "relu", "conv", "add"):
        assert told(found[name]) == ("NCDHW", 8, 0, None)
    assert told(found["mean"]) == ("NC", 8, 0, None)


@pytest.mark.parametrize("length", [32, 9, 7])
def test_sequences(length: int) -> None:
    found = features(shapes.Sequences(), torch.randn(2, 3, length))
    for name in ("stem", "norm", "relu"):
        assert told(found[name]) == ("NCL", 8, 0, None)


@pytest.mark.parametrize("one_size", [False, True])
@pytest.mark.parametrize("shape", [(64, 64), (64, 96), (96, 64), (64, 128)])
@pytest.mark.parametrize("prefix", [0, 1, 5])
def test_tokens_with_prefixes(prefix: int, shape: tuple[int, int], one_size: bool) -> None:
    net: nn.Module = Tokens(prefix, patch=8)
    net, name = (OneSize(net, shape[1]), "inner.block") if one_size else (net, "block")
    found = features(net, torch.randn(1, 3, *shape))
    assert told(found[name]) == ("NLC", 8, prefix, (shape[0] // 8, shape[1] // 8))


@pytest.mark.parametrize("prefix", [0, 1, 5])
@pytest.mark.parametrize("shape", [(64, 64), (64, 96), (96, 64)])
def test_overlapping_patches(shape: tuple[int, int], prefix: int) -> None:
    found = features(shapes.Overlapping(prefix), torch.randn(1, 3, *shape))
    grid = tuple((size - 16) // 8 + 1 for size in shape)
    assert told(found["block"]) == ("NLC", 8, prefix, grid)


def test_heads_are_no_maps() -> None:
    found = features(shapes.Heads(), image(2, 3, 64))
    assert found["norm"] is None
    assert found["flatten_1"] is not None
    assert told(found["out"]) == ("NLC", 12, 0, (8, 8))


Made = Callable[[], nn.Module]


@pytest.mark.parametrize(
    ("net", "shape", "site", "block"),
    [
        (shapes.Volumes, VOLUME, "conv", "se"),
        (shapes.Volumes, (1, 3, 4, 32, 64), "add", "eca"),
        (shapes.Sequences, (2, 3, 32), "relu", "se"),
        (shapes.Sequences, (2, 3, 33), "norm", "eca"),
        (partial(shapes.Overlapping, 1), (2, 3, 64, 64), "block", "cbam"),
        (partial(shapes.Overlapping, 1), (2, 3, 64, 96), "block", "cbam"),
        (partial(shapes.Overlapping, 5), (2, 3, 64, 64), "block.fc", "coord"),
        (partial(Tokens, 5, 8), (1, 3, 64, 128), "block", "cbam"),
        (partial(Tokens, 5, 8), (1, 3, 64, 128), "block", "se"),
    ],
)
def test_certified_from_end_to_end(net: Made, shape: tuple[int, ...], site: str, block: str) -> None:
    original, x = net().eval(), torch.randn(shape)
    options: dict[str, Any] = {} if block == "eca" else {"reduction": 2}
    model = insert(original, block, after=site, example=x, options=options)
    statuses = {check.name: check.status for check in certify(original, model, x).checks}
    assert "failed" not in statuses.values()
    assert statuses["grafts can learn"] == "passed"


def test_block_weighs_the_channels_of_a_volume() -> None:
    net, x = shapes.Volumes().eval(), torch.randn(VOLUME)
    model = opened(net, "conv", example=x).eval()
    block = block_at(model, "conv")
    with torch.no_grad():
        y = torch.relu(net.norm(net.stem(x)))
        z = net.conv(y)
        attended = block(z)
        assert torch.equal(model(x), net.fc((y + attended).mean((2, 3, 4))))
        factors = attended / z
        spread = factors.flatten(2).amax(2) - factors.flatten(2).amin(2)
        torch.testing.assert_close(spread, torch.zeros(2, 8), rtol=0, atol=1e-4)  # one factor a channel, but rounded


def test_map_of_overlapping_patches() -> None:
    net, x = shapes.Overlapping(5), torch.randn(2, 3, 64, 96)
    model = opened(net, "block", block="cbam", example=x).eval()
    inner = block_at(model, "block").get_submodule("block")
    with torch.no_grad():
        tokens = net(x)
        maps = tokens[:, 5:].transpose(1, 2).reshape(2, 8, 7, 11)
        got = model(x)
        assert torch.equal(got[:, :5], tokens[:, :5])
        torch.testing.assert_close(got[:, 5:], inner(maps).flatten(2).transpose(1, 2), rtol=1e-5, atol=1e-6)


def test_spatial_blocks_are_refused_on_volumes_in_words() -> None:
    with pytest.raises(PlanError, match=r"after conv: coord runs on maps \(N, C, H, W\), not on NCDHW"):
        insert(shapes.Volumes(), "coord", after="conv", example=torch.randn(VOLUME), options={"reduction": 2})


@pytest.mark.parametrize(
    ("shape", "others"),
    [
        ((1, 3, 64, 64), [(1, 3, 32, 32), (1, 3, 128, 128)]),
        ((2, 3, 224, 224), [(2, 3, 160, 160), (2, 3, 448, 448)]),
        ((1, 3, 32, 32), [(1, 3, 64, 64)]),
        ((1, 3, 128, 64), [(1, 3, 64, 32), (1, 3, 256, 128), (1, 3, 96, 32)]),
        ((1, 3, 8, 64, 96), [(1, 3, 8, 128, 192), (1, 3, 8, 32, 64)]),
        ((1, 3, 64), []),
        ((7,), []),
    ],
)
def test_other_sizes(shape: tuple[int, ...], others: list[tuple[int, ...]]) -> None:
    example = torch.randn(shape)
    assert [tuple(other.shape) for other in other_sizes(example) if isinstance(other, Tensor)] == others
    assert image_size(example) == (shape[-2:] if len(shape) > 3 else None)


def test_other_sizes_are_made_of_the_same_pixels() -> None:
    x = torch.arange(2 * 3 * 4 * 32 * 32.0).reshape(2, 3, 4, 32, 32)
    (other,) = other_sizes(x)
    assert isinstance(other, Tensor)
    assert torch.equal(other[..., ::2, ::2], x)


def test_examples_of_several_tensors() -> None:
    one, other, label = image(1, 3, 64), image(1, 1, 64), torch.tensor(3)
    small, large = other_sizes({"a": one, "b": (other, label)})
    assert isinstance(small, dict)
    assert small["a"].shape[2:] == small["b"][0].shape[2:] == (32, 32)
    assert small["b"][1] is label
    assert isinstance(large, dict)
    assert large["a"].shape[2:] == (128, 128)
    assert other_sizes((one, image(1, 3, 32))) == []
    assert other_sizes((one, torch.randn(1, 9))) == []
