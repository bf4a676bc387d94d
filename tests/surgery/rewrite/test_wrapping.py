"""Modules whose own forward does not trace, and forwards made of helper methods."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.rewrite.operated_modules import generated_sources
from tests import toy_networks

from ..helpers import block_at, blocks, grafted, identical, image, opened

UNTRACEABLE = [toy_networks.IntOnShape, toy_networks.BranchOnValue, toy_networks.Positions]


@pytest.mark.parametrize("kind", UNTRACEABLE)
def test_untraceable_stage_is_wrapped(kind: type[nn.Module]) -> None:
    net, x = toy_networks.Root(kind()), image()
    assert identical(net, grafted(net, "stage"), x)
    model = opened(net, "stage")
    assert list_grafts(model)[0].graft.placement.how == "wrapped"
    with torch.no_grad():
        assert torch.equal(model(x), net.fc(blocks(model)[0](net.stage(x)).mean((2, 3))))


@pytest.mark.parametrize("kind", UNTRACEABLE)
def test_leaf_of_an_untraceable_stage_is_wrapped(kind: type[nn.Module]) -> None:
    net, x = toy_networks.Root(kind()), image()
    model = opened(net, "stage.conv")
    (made,) = list_grafts(model)
    assert (made.owner, made.graft.placement.how) == ("stage.conv", "wrapped")
    with torch.no_grad():
        expected = made.block(F.conv2d(x, net.stage.conv.weight, net.stage.conv.bias, padding=1))  # type: ignore[union-attr,arg-type]
        assert torch.equal(model.get_submodule("stage.conv")(x), expected)
    assert identical(net, grafted(net, "stage.conv"), x)


@pytest.mark.parametrize("kind", UNTRACEABLE)
def test_entry_of_an_untraceable_stage(kind: type[nn.Module]) -> None:
    net, x = toy_networks.Root(kind()), image()
    model = opened(net, before="stage")
    with torch.no_grad():
        assert torch.equal(model(x), net.fc(net.stage(blocks(model)[0](x)).mean((2, 3))))


def test_untraceable_root() -> None:
    net, x = toy_networks.BranchOnValue(), image()
    model = opened(net, "conv")
    with torch.no_grad():
        y = blocks(model)[0](F.conv2d(x, net.conv.weight, net.conv.bias, padding=1))
        assert torch.equal(model(x), y if y.sum() > 0 else y - 1)


def test_list_of_tensors_as_argument() -> None:
    net, x = toy_networks.GivesList(), image()
    model = opened(net, ["stage", "stage.conv"])
    with torch.no_grad():
        y = block_at(model, "stage.conv")(net.stage.conv(x)) + x * 2
        assert torch.equal(model(x), block_at(model, "stage")(y))


def test_entry_by_keyword() -> None:
    class ByKeyword(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stage = toy_networks.BranchOnValue()

        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return self.stage(x=image)  # type: ignore[no-any-return]

    net, x = ByKeyword(), image()
    model = opened(net, before="stage")
    with torch.no_grad():
        assert torch.equal(model(x), net.stage(blocks(model)[0](x)))


def test_graft_in_a_helper_is_met_by_both_routes() -> None:
    net, x = toy_networks.Helpers().eval(), image()
    model = opened(net, "body")
    with torch.no_grad():
        features = blocks(model)[0](net.forward_features(x))
        assert torch.equal(model.forward_features(x), features)  # type: ignore[operator]
        assert torch.equal(model(x), net.forward_head(net.norm(features)))


def test_grafts_in_a_helper_and_in_the_forward_both_run() -> None:
    net, x = toy_networks.Helpers().eval(), image()
    model = opened(net, ["stem", "norm", "body"])
    with torch.no_grad():
        stem = F.relu(block_at(model, "stem")(net.stem(x)))
        features = block_at(model, "body")(net.body(stem))
        assert torch.equal(model.forward_features(x), features)  # type: ignore[operator]
        assert torch.equal(model(x), net.forward_head(block_at(model, "norm")(net.norm(features))))


def test_grafts_in_two_helpers_and_the_forward() -> None:
    net, x = toy_networks.Helpers().eval(), image()
    model = opened(net, ["mean", "body", "norm"])
    with torch.no_grad():
        features = block_at(model, "norm")(net.norm(block_at(model, "body")(net.forward_features(x))))
        assert torch.equal(model(x), net.fc(block_at(model, "mean")(features.mean((2, 3)))))


def test_helper_keeps_its_signature() -> None:
    net, x = toy_networks.Helpers().eval(), image()
    model = opened(net, "mean")
    with torch.no_grad():
        assert torch.equal(model.forward_head(x), net.fc(blocks(model)[0](x.mean((2, 3)))))  # type: ignore[operator]
        with pytest.raises(ValueError, match="rewritten for pre_logits=False"):
            model.forward_head(x, pre_logits=True)  # type: ignore[operator]


def test_edges_and_a_wrapper_of_one_owner() -> None:
    net, x = toy_networks.Root(toy_networks.Residual()), image()
    model = insert(opened(net, "stage.conv"), "se", after="stage", before="stage", example=x, options={"reduction": 2})
    for block in blocks(model):
        for parameter in block.parameters():
            nn.init.normal_(parameter)
    assert "_inner_forward" in generated_sources(model.get_submodule("stage"))
    with torch.no_grad():
        entered = block_at(model, "stage", "before")(x)
        y = entered + block_at(model, "stage.conv")(net.stage.conv(entered))  # type: ignore[operator]
        assert torch.equal(model(x), net.fc(block_at(model, "stage")(y).mean((2, 3))))
