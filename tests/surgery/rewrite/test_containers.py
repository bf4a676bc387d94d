"""Containers that their parents iterate, slice and index instead of calling them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint, checkpoint_sequential

from attn_surgeon.operations.remove import remove
from tests import toy_networks

from ..helpers import block_at, blocks, grafted, identical, image, opened

WAYS = [toy_networks.call, toy_networks.iterate, toy_networks.slices, toy_networks.index]
How = Callable[[nn.Sequential, Tensor], Tensor]


@pytest.mark.parametrize("how", WAYS)
def test_last_child_of_a_sequential(how: How) -> None:
    net, x = toy_networks.Stages(how), image()
    assert identical(net, grafted(net, "stage.2"), x)
    model = opened(net, "stage.2")
    with torch.no_grad():
        assert torch.equal(model(x), blocks(model)[0](net.stage(x)))


@pytest.mark.parametrize("used", WAYS)
def test_called_sequential_runs_its_graft_however_it_is_used_later(used: How) -> None:
    net, x = toy_networks.Stages(toy_networks.call), image()
    stage: nn.Sequential = opened(net, "stage").stage  # type: ignore[assignment]
    with torch.no_grad():
        expected = blocks(stage)[0](net.stage(x))
        assert torch.equal(used(stage, x), expected)
        assert not torch.equal(expected, net.stage(x))


@pytest.mark.parametrize("used", WAYS)
def test_entry_of_a_sequential_however_it_is_used_later(used: How) -> None:
    net, x = toy_networks.Stages(toy_networks.call), image()
    stage: nn.Sequential = opened(net, before="stage").stage  # type: ignore[assignment]
    with torch.no_grad():
        assert torch.equal(used(stage, x), net.stage(blocks(stage)[0](x)))


def wrapped_sequential() -> tuple[nn.Sequential, nn.Sequential]:
    """Make a Sequential whose own call is wrapped, because its last child is also called from elsewhere."""

    class Reuses(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            relu = nn.ReLU()
            self.first, self.second = nn.Sequential(toy_networks.conv(), relu), nn.Sequential(toy_networks.conv(), relu)

        def forward(self, x: Tensor) -> Tensor:
            return self.second(self.first(x)) if x.sum() else x

    net = Reuses()
    return net.first, opened(net, "first").first  # type: ignore[return-value]


def test_wrapped_sequential_keeps_its_length_items_and_slices() -> None:
    original, stage = wrapped_sequential()
    x = image()
    assert len(stage) == len(original)
    assert [type(child) for child in stage] == [type(child) for child in original]
    assert [type(stage[n]) for n in (0, 1, -1)] == [nn.Conv2d, nn.ReLU, nn.ReLU]
    with torch.no_grad():
        assert torch.equal(stage(x), blocks(stage)[0](original(x)))
        assert torch.equal(stage[:1](x), original[:1](x))
        assert torch.equal(stage[0:](x), original(x))


@pytest.mark.parametrize("how", WAYS)
def test_all_sites_of_a_sequential_stay_the_identity(how: How) -> None:
    net, x = toy_networks.Stages(how), image()
    model = grafted(net, "**")
    assert identical(net, model, x)
    assert identical(net, remove(model), x)


def test_items_of_a_module_dict() -> None:
    net, x = toy_networks.Root(nn.Sequential(toy_networks.Dense(), nn.Conv2d(12, 4, 1))), image()
    assert identical(net, grafted(net, "**"), x)
    model = opened(net, ["stage.0.layer1", "stage.0"])
    dense = net.stage[0]  # type: ignore[index]
    with torch.no_grad():
        first = block_at(model, "stage.0.layer1")(dense["layer1"](x))
        second = dense["layer2"](torch.cat((x, first), 1))
        y = block_at(model, "stage.0")(torch.cat((x, first, second), 1))
        assert torch.equal(model(x), net.fc(net.stage[1](y).mean((2, 3))))  # type: ignore[index]


def test_operated_module_dict_shows_only_its_own_items() -> None:
    net = toy_networks.Dense()
    model = grafted(net, "layer1")
    assert isinstance(model, toy_networks.Dense)
    assert list(model) == list(model.keys()) == ["layer1", "layer2"]
    assert len(model) == 2
    assert "attn_surgeon" not in model
    assert [key for key, _ in model.items()] == ["layer1", "layer2"]
    assert [type(value) for value in model.values()] == [nn.Conv2d, nn.Conv2d]


def test_forward_over_children() -> None:
    net, x = toy_networks.Root(toy_networks.OverChildren()), image()
    assert identical(net, grafted(net, "**"), x)
    model = opened(net, ["stage", "stage.a"])
    with torch.no_grad():
        y = net.stage.b(block_at(model, "stage.a")(net.stage.a(x)))  # type: ignore[operator]
        assert torch.equal(model(x), net.fc(block_at(model, "stage")(y).mean((2, 3))))


def test_checkpointed_stage_learns_the_same() -> None:
    net, x = toy_networks.Stages(toy_networks.call), image().requires_grad_()
    model = opened(net, ["stage", "stage.0"])
    plain = torch.autograd.grad(model(x).square().sum(), list(model.parameters()))
    y = checkpoint(model, x, use_reentrant=False)
    assert isinstance(y, Tensor)
    again = torch.autograd.grad(y.square().sum(), list(model.parameters()))
    assert all(map(torch.equal, plain, again))


def test_checkpointed_sequential_runs_its_graft() -> None:
    net, x = toy_networks.Stages(toy_networks.call), image()
    stage: nn.Sequential = opened(net, "stage").stage  # type: ignore[assignment]
    y = checkpoint_sequential(stage, 2, x, use_reentrant=False)  # type: ignore[no-untyped-call]
    assert torch.equal(y, blocks(stage)[0](net.stage(x)))
