"""Residual adds, fusions and skips, told apart by the paths that meet there."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.surgery.observe.dataflow import Dataflow
from attn_surgeon.surgery.observe.observe import observe
from attn_surgeon.surgery.sites.residuals_and_fusions import find_joins
from tests.toy_networks import InPlace, joins, trunks

from ..helpers import after, image, members


@pytest.mark.parametrize(
    ("block", "residual", "fusions"),
    [
        (InPlace, ["bn2"], []),
        (joins.Scaled, ["drop_path"], []),
        (joins.Projected, ["bn2"], []),
        (joins.PreActivated, ["conv2"], []),
        (joins.Parallel, ["a", "m"], []),
        (joins.RepVGG, ["add"], ["add"]),
        (partial(joins.RepVGG, 4, 8), [], ["add"]),
        (joins.Pooled, ["sub"], []),
        (joins.Atrous, [], ["cat"]),
        pytest.param(
            joins.Elementwise,
            [],
            [],
        ),
    ],
)
def test_residuals_and_fusions_of_one_block(block: joins.Block, residual: list[str], fusions: list[str]) -> None:
    built = block()
    net = joins.Between(built, 8 if isinstance(built, joins.RepVGG) and built.bn is None else 4)
    assert members(net, "residual", image()) == after(*(f"block.{name}" for name in residual))
    assert members(net, "fusions", image()) == after(*(f"block.{name}" for name in fusions))
    assert members(net, "skips", image()) == []
    assert members(net, "blocks", image()) == (after("block") if residual else [])


def test_elementwise_rescaling_is_no_residual() -> None:
    assert members(joins.Between(joins.Elementwise()), "residual", image()) == []


def test_both_branches_of_a_transformer_block() -> None:
    net = trunks.ClassToken(token=False)
    inside = [f"blocks.{n}.{branch}" for n in range(3) for branch in ("attn", "mlp")]
    assert members(net, "residual", image(2, 3, 64)) == after(*inside)
    assert members(net, "blocks", image(2, 3, 64)) == after("blocks.0", "blocks.1", "blocks.2")
    assert members(net, "fusions", image(2, 3, 64)) == []


def test_adds_in_the_networks_own_forward() -> None:
    net = joins.Parallel()
    assert members(net, "blocks", image()) == after("add", "add_1")
    assert members(net, "residual", image()) == after("a", "m")


def test_a_coarse_map_added_to_a_fine_one() -> None:
    net, x = joins.Pyramid(), image(2, 4, 16)
    assert members(net, "fusions", x) == after("add")
    assert members(net, "skips", x) == [("add:0", "before")]
    assert members(net, "residual", x) == members(net, "blocks", x) == []


def test_an_encoders_maps_beside_a_decoders() -> None:
    net, x = trunks.UNet(), image(2, 3, 64)
    assert members(net, "fusions", x) == after("cat", "cat_1")
    assert members(net, "skips", x) == [("cat:1", "before"), ("cat_1:1", "before")]
    assert members(net, "residual", x) == []


@pytest.mark.parametrize("at_end", [False, True])
def test_pieces_of_one_map_are_no_fusion(at_end: bool) -> None:
    net, x = trunks.Swin(at_end=at_end), image(2, 3, 64)
    assert members(net, "fusions", x) == members(net, "skips", x) == []


def test_a_class_token_is_no_fusion() -> None:
    assert members(trunks.ClassToken(token=True), "fusions", image(2, 3, 64)) == []


@pytest.mark.parametrize("swapped", [False, True])
def test_which_part_is_the_branch(swapped: bool) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.branch = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            y = self.branch(x)
            return torch.tanh(y + x if swapped else torch.add(x, y))

    seen = observe(Net(), image())
    flow = Dataflow(seen)
    (residual,), fusions = find_joins(flow)
    assert fusions == []
    assert flow.values[residual.fork] is seen.calls["stem"][0].output
    assert flow.values[residual.branch] is seen.calls["branch"][0].output
    assert residual.event.function in ("add", "__add__")
    assert flow.values[residual.result] is residual.event.output


def test_which_part_of_a_projected_block_is_the_branch() -> None:
    seen = observe(joins.Between(joins.Projected()), image())
    flow = Dataflow(seen)
    (residual,), _ = find_joins(flow)
    assert flow.values[residual.branch] is seen.calls["block.bn2"][0].output
    assert flow.values[residual.fork] is seen.calls["stem"][0].output


def test_pooled_pyramids_are_no_decoders() -> None:
    class Pooling(nn.Module):
        """Pool to one place beside a cat, as DeepLab does, but at the network's end."""

        def __init__(self) -> None:
            super().__init__()
            self.stem, self.block = nn.Conv2d(4, 4, 1), joins.Atrous()

        def forward(self, x: Tensor) -> Tensor:
            return self.block(self.stem(x))  # type: ignore[no-any-return]

    assert members(Pooling(), "skips", image()) == []
    assert members(Pooling(), "fusions", image()) == after("block.cat")
