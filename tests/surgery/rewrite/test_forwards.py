"""Forwards whose nodes are easily mixed up: repeated, in place, shared, frozen, named alike."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.errors import PlanError
from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import run_network, same_bits
from attn_surgeon.surgery.sites.survey import find_sites
from tests import toy_networks

from ..helpers import block_at, blocks, changed, grafted, identical, image, opened


def test_children_named_like_grafts_survive() -> None:
    net, x = toy_networks.NamedAttn(), image()
    model = grafted(net, "**")
    assert identical(net, model, x)
    assert net.state_dict().keys() <= model.state_dict().keys()
    model = opened(net, "attn")
    with torch.no_grad():
        assert torch.equal(model(x), x + net.after_attn(net.after(net.se(blocks(model)[0](net.attn(x))))))


def test_reserved_child_name_is_refused_and_kept() -> None:
    net, x = toy_networks.Reserved(), image()
    with pytest.raises(PlanError, match="has a child called 'attn_surgeon' already"):
        insert(net, "se", after="add", example=x, options={"reduction": 2}, inplace=True)
    assert type(net) is toy_networks.Reserved
    assert [name for name, _ in net.named_children()] == ["conv", "attn_surgeon"]
    model = opened(net, "conv")
    with torch.no_grad():
        assert torch.equal(model(x), x + net.attn_surgeon(blocks(model)[0](net.conv(x))))


def test_graft_after_a_node_used_twice_feeds_both_uses() -> None:
    net, x = toy_networks.UsedTwice(), image()
    model = opened(net, "conv")
    with torch.no_grad():
        y = blocks(model)[0](net.conv(x))
        assert torch.equal(model(x), torch.cat((y, torch.sigmoid(y) * y), 1))


def test_graft_before_a_node_feeds_that_node_only() -> None:
    net, x = toy_networks.UsedTwice(), image()
    model = opened(net, before="sigmoid")
    with torch.no_grad():
        y = net.conv(x)
        assert torch.equal(model(x), torch.cat((y, torch.sigmoid(blocks(model)[0](y)) * y), 1))


def test_function_named_like_a_child_keeps_both_sites() -> None:
    net, x = toy_networks.FunctionLikeChild(), image()
    assert [site.name for site in find_sites(net, x)] == ["relu_1", "neg", "relu"]
    model = opened(net, ["relu_1", "relu"])
    with torch.no_grad():
        y = block_at(model, "relu_1")(F.relu(x))
        assert torch.equal(model(x), block_at(model, "relu")(net.relu(-y)))


@pytest.mark.parametrize("site", ["bn", "relu", "conv2", "bn2", "add", "relu_1"])
def test_in_place_neighbours(site: str) -> None:
    net, x = toy_networks.InPlace(), image()
    assert identical(net, grafted(net, site), x)
    model = opened(net, site)
    (block,) = blocks(model)
    here = {site: block}

    def at(name: str, value: Tensor) -> Tensor:
        return here.get(name, nn.Identity())(value)  # type: ignore[no-any-return]

    net.eval()
    with torch.no_grad():
        out = at("relu", F.relu(at("bn", net.bn(net.conv(x)))))
        out = at("add", at("bn2", net.bn2(at("conv2", net.conv2(out)))) + x)
        assert torch.equal(run_network(model, x), at("relu_1", F.relu(out)))


def test_value_changed_in_place_under_a_second_name() -> None:
    net, x = toy_networks.Aliased(), image()
    assert identical(net, grafted(net, "conv"), x)
    model = opened(net, "conv")
    with torch.no_grad():
        y = blocks(model)[0](net.conv(x)) + x
        assert torch.equal(model(x), y.reshape(2, -1) * 3)


def test_in_place_neighbours_leave_gradients_whole() -> None:
    net, x = toy_networks.InPlace(), image()
    model = grafted(net, ["bn", "relu", "bn2", "add", "relu_1"])
    gradients = []
    for each in (net, model):
        each.eval()
        each(x).square().sum().backward()
        gradients.append([parameter.grad for name, parameter in each.named_parameters() if "attn_surgeon" not in name])
    assert same_bits(*gradients)


def test_only_the_chosen_call_of_a_shared_leaf_is_grafted() -> None:
    net, x = toy_networks.SharedRelu(), image()
    names = [site.name for site in find_sites(net, x)]
    assert names == ["a", "relu", "b", "relu_1", "c", "relu_2"]
    for chosen in range(3):
        model = opened(net, names[2 * chosen + 1])
        grafts = [nn.Identity() if n != chosen else blocks(model)[0] for n in range(3)]
        with torch.no_grad():
            y = x
            for conv, graft in zip((net.a, net.b, net.c), grafts, strict=True):
                y = graft(F.relu(conv(y)))
            assert torch.equal(model(x), y)


def test_composite_called_three_times_has_one_graft_that_runs_three_times() -> None:
    net, x = toy_networks.SharedHead(), image()
    (site,) = [site for site in find_sites(net, x) if site.name == "head"]
    assert site.calls == 3
    model = opened(net, "head")
    (made,) = list_grafts(model)
    assert made.graft.calls == 3
    with torch.no_grad():
        stem = net.stem(x)
        expected = [made.block(net.head(F.avg_pool2d(stem, size))) for size in (1, 2, 4)]
        assert same_bits(model(x), expected)


def test_child_named_like_a_repeated_call_keeps_its_site() -> None:
    net, x = toy_networks.CollidingNames(), image()
    names = [site.name for site in find_sites(net, x)]
    assert len(set(names)) == len(names) == 7
    model = opened(net, "relu_1")
    with torch.no_grad():
        y = net.relu_1(net.a(net.relu(net.a(net.relu(x) - 1))))
        assert torch.equal(model(x), blocks(model)[0](y) * 2)


def test_tuple_output_is_refused_with_a_reason() -> None:
    net, x = toy_networks.Unpacks(), image()
    with pytest.raises(PlanError, match="after backbone: several tensors are there: backbone:0, backbone:1"):
        grafted(net, "backbone")
    assert identical(net, grafted(net, ["**"]), x)


def test_sites_inside_a_module_with_tuple_output_work() -> None:
    net, x = toy_networks.Unpacks(), image()
    model = opened(net, ["backbone.b", "add"])
    with torch.no_grad():
        second = block_at(model, "backbone.b")(net.backbone.b(x))
        out = net.out(block_at(model, "add")(net.backbone.a(x) + second))
        assert same_bits(model(x), {"out": out, "aux": second})


def test_constant_tensor_made_in_the_forward_is_not_frozen() -> None:
    net, x = toy_networks.Root(toy_networks.Positions()), image()
    model = opened(net, "stage")
    with torch.no_grad():
        expected = net.fc(blocks(model)[0](net.stage(x)).mean((2, 3)))
        assert torch.equal(model(x), expected)
    assert identical(net, grafted(net, "stage.*"), x)
    assert [name for name in vars(net.stage) if "constant" in name] == []


def test_constant_tensor_of_a_changed_setting() -> None:
    net, x = toy_networks.Positions(), image()
    model = grafted(net, "conv")
    model.length = torch.tensor(1)
    net.length = 1
    assert torch.equal(model(x), net(x))


def test_forward_replaced_on_the_object() -> None:
    net, x = toy_networks.Root(toy_networks.Residual()), image()
    stage = net.stage
    vars(stage)["forward"] = lambda x: F.conv2d(x, stage.conv.weight, padding=1)  # type: ignore[union-attr,arg-type]
    model = opened(net, "stage", inplace=True)
    with torch.no_grad():
        y = F.conv2d(x, stage.conv.weight, padding=1)  # type: ignore[union-attr,arg-type]
        assert torch.equal(model(x), net.fc(blocks(model)[0](y).mean((2, 3))))


def test_forward_replaced_on_the_object_in_an_opaque_network() -> None:
    net, x = toy_networks.Root(toy_networks.Residual()), image()
    vars(net)["forward"] = lambda x: x * 2
    model = opened(toy_networks.OneSize(net, 8), "inner")
    with torch.no_grad():
        assert torch.equal(model(x), blocks(model)[0](x * 2))
    assert torch.equal(net(x), x * 2)


def test_leaf_inside_a_replaced_forward() -> None:
    net, x = toy_networks.Root(toy_networks.Residual()), image()
    stage = net.stage
    vars(stage)["forward"] = lambda x: stage.conv(x) * 3  # type: ignore[operator]
    model = opened(net, "stage.conv", inplace=True)
    (block,) = blocks(model)
    y = block(nn.Conv2d.forward(stage.conv, x))  # type: ignore[arg-type]
    assert torch.equal(model(x), net.fc((y * 3).mean((2, 3))))


def test_module_under_two_names() -> None:
    net, x = toy_networks.Tied(), image()
    assert identical(net, grafted(net, "first"), x)
    model = opened(net, "first")
    with torch.no_grad():
        graft = blocks(model)[0]
        assert torch.equal(model(x), graft(net.second(torch.tanh(graft(net.first(x))))))
    restored = remove(model)
    assert restored.get_submodule("first") is restored.get_submodule("second")
    assert not changed(net, restored, x)
