"""An operated network is still a normal module: copied, pickled, compiled, exported, cast, trained."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.rewrite.operated_modules import is_operated
from attn_surgeon.surgery.running import run_network, same_bits
from tests import toy_networks

from ..helpers import changed, grafted, identical, image, opened

SITES = {
    toy_networks.InPlace: ["bn", "add"],
    toy_networks.Helpers: ["body", "norm"],
    toy_networks.FunctionalDropout: ["conv"],
    toy_networks.Masked: ["conv"],
    toy_networks.SharedRelu: ["relu_1"],
    toy_networks.Dense: ["layer1"],
    toy_networks.OverChildren: ["a"],
    toy_networks.BranchOnValue: ["conv"],
}
KINDS = list(SITES)
TRACEABLE = [kind for kind in KINDS if kind is not toy_networks.BranchOnValue]


def through_pickle(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))  # type: ignore[no-any-return]


def through_file(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("way", [copy.deepcopy, through_pickle, through_file])
def test_copies_are_operated_and_restorable(kind: type[nn.Module], way: Callable[[nn.Module], nn.Module]) -> None:
    net, x = kind(), image()
    model = opened(net, SITES[kind])
    copied = way(model)
    assert identical(model, copied, x)
    assert changed(net, copied, x)
    restored = remove(copied)
    assert type(restored) is kind
    assert list(restored.state_dict()) == list(net.state_dict())
    assert identical(net, restored, x)
    assert changed(net, copied, x)


def test_copy_owns_its_parameters() -> None:
    model, x = opened(toy_networks.InPlace(), "bn"), image()
    before = run_network(model, x)
    copied = copy.deepcopy(model)
    for parameter in copied.parameters():
        nn.init.zeros_(parameter)
    assert torch.equal(run_network(model, x), before)


@pytest.mark.parametrize("kind", TRACEABLE)
def test_compiles_without_graph_breaks(kind: type[nn.Module]) -> None:
    model, x = opened(kind(), SITES[kind]).eval(), image()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    with torch.no_grad():
        assert torch.equal(compiled(x), model(x))
    torch.compiler.reset()


@pytest.mark.parametrize("kind", [toy_networks.InPlace, toy_networks.Helpers, toy_networks.FunctionalDropout])
def test_exports(kind: type[nn.Module]) -> None:
    model, x = opened(kind(), SITES[kind]).eval(), image()
    program = torch.export.export(model, (x,))
    with torch.no_grad():
        assert torch.equal(program.module()(x), model(x))


@pytest.mark.parametrize("kind", KINDS)
def test_pretrained_keys_and_values_are_a_subset(kind: type[nn.Module]) -> None:
    net = kind()
    theirs = grafted(net, SITES[kind]).state_dict()
    mine = net.state_dict()
    assert all(torch.equal(theirs[key], value) for key, value in mine.items())
    added = [key for key in theirs if key not in mine]
    assert added
    assert all("attn_surgeon." in key for key in added)
    assert [key for key in theirs if key in mine] == list(mine)


def test_state_dict_loads_into_a_second_operated_network() -> None:
    first, second = opened(toy_networks.Helpers(), ["body", "norm"]), grafted(toy_networks.Helpers(), ["body", "norm"])
    second.load_state_dict(first.state_dict())
    assert not changed(first, second, image())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_identity_in_other_precisions(dtype: torch.dtype) -> None:
    net, x = toy_networks.InPlace(), image()
    model = grafted(net, ["bn", "add"], block="cbam")
    assert identical(net.to(dtype), model.to(dtype), x.to(dtype))
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_identity_of_a_network_that_is_in_bfloat16_already() -> None:
    net, x = toy_networks.InPlace().bfloat16(), image().bfloat16()
    model = grafted(net, ["bn", "add"], example=x)
    assert identical(net, model, x)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_identity_under_autocast() -> None:
    net, x = toy_networks.InPlace(), image()
    model = grafted(net, ["bn", "add"], block="cbam")
    with torch.autocast("cpu", torch.bfloat16):
        assert identical(net, model, x)


def test_channels_last_keeps_its_strides() -> None:
    net, x = toy_networks.InPlace(), image().to(memory_format=torch.channels_last)
    model = grafted(net, ["bn", "add"], block="cbam").to(memory_format=torch.channels_last)
    expected, got = run_network(net, x), run_network(model, x)
    assert got.stride() == expected.stride()
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_caller_keeps_its_network() -> None:
    net = toy_networks.Helpers()
    state, classes = copy.deepcopy(net.state_dict()), [type(module) for module in net.modules()]
    flags = {name: dict(vars(module)) for name, module in net.named_modules()}
    model = opened(net, "**")
    assert classes == [type(module) for module in net.modules()]
    assert same_bits(list(state.values()), list(net.state_dict().values()))
    assert flags.keys() == dict(net.named_modules()).keys()
    assert all(vars(module).keys() == flags[name].keys() for name, module in net.named_modules())
    shared = {id(parameter) for parameter in net.parameters()} & {id(parameter) for parameter in model.parameters()}
    assert not shared


def test_in_place_operates_on_the_callers_network() -> None:
    net = toy_networks.Helpers()
    assert grafted(net, "body", inplace=True) is net
    assert is_operated(net)
    assert remove(net, inplace=True) is net
    assert type(net) is toy_networks.Helpers


def test_class_methods_and_name_are_kept() -> None:
    model = grafted(toy_networks.Helpers(), "body")
    assert isinstance(model, toy_networks.Helpers)
    assert type(model).__name__ == "Helpers"
    assert model.forward_head(torch.ones(1, 4, 2, 2), pre_logits=True).tolist() == [[1.0] * 4]


def test_modes_reach_the_blocks() -> None:
    model = grafted(toy_networks.InPlace().eval(), ["bn", "add"], block="cbam")
    assert not any(module.training for module in model.modules())
    model.train()
    assert all(module.training for module in model.modules())


def test_training_moves_blocks_and_network_alike() -> None:
    model, x = grafted(toy_networks.InPlace(), ["bn", "add"]), image()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        model(x).square().mean().backward()
        optimizer.step()
    still = [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])]
    assert still == []
