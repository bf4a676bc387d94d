"""Networks that are `torch.fx.GraphModule`s: their graphs are rewritten, so copies and recompiling keep the grafts."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, fx, nn
from torchvision.models.feature_extraction import create_feature_extractor

from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.certificate import certify
from attn_surgeon.surgery.graft_check import check
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import run_network, same_bits
from attn_surgeon.surgery.sites.survey import find_sites

from ..helpers import blocks, image, open_up, opened


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn(self.conv(x))
        if self.training:
            y = y * 2
        return (x + y).relu()  # type: ignore[no-any-return]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stage, self.head = nn.Sequential(Block(), Block()), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stage(x))  # type: ignore[no-any-return]


def traced() -> Any:
    return fx.symbolic_trace(Net().eval())


def dual() -> Any:
    return create_feature_extractor(Net(), {"head": "out"}, suppress_diff_warning=True)


def recompiled(model: Any) -> Any:
    model.recompile()
    return model


def relinted(model: Any) -> Any:
    model.graph.eliminate_dead_code()
    model.delete_all_unused_submodules()
    model.graph.lint()
    model.recompile()
    return model


def pickled(model: Any) -> Any:
    return pickle.loads(pickle.dumps(model))


WAYS = [copy.deepcopy, recompiled, relinted, pickled, fx.symbolic_trace]
SITES = [{"after": "stage.0.bn"}, {"before": "head"}, {"after": "add"}, {"after": "stage.1"}]


@pytest.mark.parametrize("site", SITES, ids=str)
@pytest.mark.parametrize("way", WAYS)
@torch.no_grad()
def test_what_is_made_of_a_graph_module_has_its_grafts(way: Any, site: dict[str, str]) -> None:
    plain, x = traced(), image()
    model = opened(plain, **site)
    expected = model(x)
    assert not torch.equal(expected, plain(x))
    made = way(model)
    assert torch.equal(made(x), expected)
    assert len(check(made, x)) == 1
    restored = remove(made)
    assert torch.equal(restored(x), plain(x))
    assert not any("attn_surgeon" in name for name in restored.state_dict())


@torch.no_grad()
def test_a_graft_in_a_graph_is_where_it_is_in_the_module() -> None:
    net, x = Net().eval(), image()
    torch.manual_seed(1)
    inside = opened(net, after="stage.0.bn")
    torch.manual_seed(1)
    assert torch.equal(opened(fx.symbolic_trace(net), after="stage.0.bn")(x), inside(x))


@torch.no_grad()
def test_two_grafts_in_turn_and_one_off_again() -> None:
    plain, x = traced(), image()
    first = opened(plain, after="stage.0.bn")
    both = open_up(insert(first, "se", after="stage.0.bn", example=x, options={"reduction": 2}))
    assert [made.key for made in list_grafts(both)] == ["after_stage_0_bn", "after_stage_0_bn_2"]
    bn = both.get_submodule("stage.0.bn")(both.get_submodule("stage.0.conv")(x))
    one, two = blocks(both)
    inner = (x + two(one(bn))).relu()
    rest = plain.get_submodule("stage.1.bn")(plain.get_submodule("stage.1.conv")(inner))
    assert torch.equal(both(x), plain.get_submodule("head")((inner + rest).relu()))
    assert torch.equal(remove(both)(x), plain(x))


@pytest.mark.parametrize("started", [True, False])
@torch.no_grad()
def test_both_graphs_of_a_feature_extractor_go_through_the_graft(started: bool) -> None:
    plain, x = dual().train(started), image()
    torch.manual_seed(0)
    grafted = insert(plain, "se", after="stage.0.bn", example=x, options={"reduction": 2})
    assert grafted.training == started
    model = open_up(copy.deepcopy(grafted))
    for training in (True, False, True):
        mine, same, changed = (copy.deepcopy(net).train(training)(x)["out"] for net in (plain, grafted, model))
        assert torch.equal(mine, same)
        assert not torch.equal(mine, changed)
    assert certify(plain, grafted, x).passed
    assert same_bits(run_network(remove(model), x), run_network(plain, x))


def test_sites_have_the_names_of_the_modules_they_came_from() -> None:
    names = [site.name for site in find_sites(traced(), image())]
    assert {"stage.0.conv", "stage.0.bn", "stage.0", "stage.1", "stage", "head", "add"} <= set(names)


@torch.no_grad()
def test_a_graph_module_inside_a_network() -> None:
    net = nn.Sequential(traced(), nn.ReLU()).eval()
    x = image()
    model = opened(net, after="0.stage.0.bn")
    copied = copy.deepcopy(model)
    assert torch.equal(copied(x), model(x))
    assert not torch.equal(model(x), net(x))
    assert torch.equal(remove(copied)(x), net(x))


@torch.no_grad()
def test_blocks_with_constant_arguments_trace_where_they_did() -> None:
    net = timm.create_model("vit_tiny_patch16_224", img_size=64, depth=2, num_classes=3).eval()
    x = torch.randn(1, 3, 64, 64)
    model = open_up(insert(net, "se", at="residual", example=x))
    again = fx.symbolic_trace(model)
    assert torch.equal(again(x), model(x))
    assert not torch.equal(again(x), net(x))


@torch.no_grad()
def test_features_of_an_operated_network() -> None:
    net, x = timm.create_model("resnet18", num_classes=3).eval(), torch.randn(1, 3, 64, 64)
    model = open_up(insert(net, "cbam", after="layer3", example=x))
    features = create_feature_extractor(model, {"layer4": "out"}).eval()
    assert torch.equal(features(x)["out"], model.forward_features(x))  # type: ignore[operator]
    assert [made.owner for made in list_grafts(features)] == ["layer3.1"]
    again = fx.symbolic_trace(model)
    assert torch.equal(again(x), model(x))
    assert torch.equal(remove(again)(x), net(x))
