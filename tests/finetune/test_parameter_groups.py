"""Which parameter trains at which rate, and what stays frozen."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torchvision
from timm.models import group_parameters
from torch import Tensor, nn

from attn_surgeon import insert
from attn_surgeon.errors import TrainingError
from attn_surgeon.finetune.freezing import freeze, train_mode
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.parameter_groups import make_optimizer, parameter_groups, require_optimizer
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.surgery.installed_grafts import list_grafts

from .helpers import EXAMPLE, operated, parts

SETTINGS = FinetuneSettings(lr=0.01, graft_lr_mult=0.5, weight_decay=0.1)


def groups(model: nn.Module, settings: FinetuneSettings = SETTINGS) -> dict[str, dict[str, Any]]:
    return {group["group"]: group for group in parameter_groups(model, settings)}


def test_every_parameter_is_in_one_group() -> None:
    model = operated()
    found = groups(model)
    names = [name for group in found.values() for name in group["names"]]
    assert sorted(names) == sorted(name for name, _ in model.named_parameters())
    assert {id(p) for group in found.values() for p in group["params"]} == {id(p) for p in model.parameters()}


def test_rates_and_decay() -> None:
    found = {name: (group["lr"], group["weight_decay"]) for name, group in groups(operated()).items()}
    assert found == {
        "base": (0.01, 0.1),
        "base without decay": (0.01, 0.0),
        "grafts": (0.005, 0.1),
        "grafts without decay": (0.005, 0.0),
    }


def test_grafts_start_from_nothing_and_so_learn_faster() -> None:
    for given, base, grafts in (
        ({}, 1e-3, 1e-2),
        ({"freeze": "base"}, 1e-2, 1e-2),
        ({"lr": 2e-3}, 2e-3, 2e-2),
        ({"lr": 2e-3, "graft_lr_mult": 0.5}, 2e-3, 1e-3),
    ):
        found = groups(operated(), FinetuneSettings(**given))
        assert (found["base"]["lr"], found["grafts"]["lr"]) == pytest.approx((base, grafts))


def test_norms_biases_and_gates_do_not_decay() -> None:
    model = operated()
    found = groups(model)
    graft = list_grafts(model)[0].path
    assert {"conv1.weight", "fc.weight"} <= set(found["base"]["names"])
    assert {"bn1.weight", "bn1.bias", "fc.bias"} <= set(found["base without decay"]["names"])
    assert f"{graft}.channel.mlp.0.weight" in found["grafts"]["names"]
    # the layer that makes the gate is a matrix, and at zero on the first day
    assert f"{graft}.channel.mlp.2.weight" in found["grafts without decay"]["names"]
    assert f"{graft}.spatial.bn.weight" in found["grafts without decay"]["names"]
    assert f"{graft}.spatial.conv.weight" in found["grafts"]["names"]


def test_a_gate_that_has_opened_is_still_a_gate() -> None:
    model = operated()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    before = {name: group["names"] for name, group in groups(operated()).items()}
    assert {name: group["names"] for name, group in groups(model).items()} == before


def test_freezing_the_base_leaves_grafts_and_head() -> None:
    model, settings = operated(), FinetuneSettings(freeze="base")
    freeze(model, settings, EXAMPLE)
    training = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    grafts = {f"{made.path}.{name}" for made in list_grafts(model) for name, _ in made.block.named_parameters()}
    assert training == grafts | {"fc.weight", "fc.bias"}
    assert set(groups(model, settings)["base"]["names"]) == {"fc.weight"}


def test_frozen_norms_stay_in_eval_mode_and_the_grafts_do_not() -> None:
    model, settings = operated(), FinetuneSettings(freeze="bn")
    train_mode(model, freeze(model, settings, EXAMPLE))
    modes = {name: module.training for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    own = tuple(made.path for made in list_grafts(model))
    assert modes
    assert all(training == name.startswith(own) for name, training in modes.items())


def test_what_is_frozen_keeps_every_bit(tmp_path: Any) -> None:
    for kind in ("bn", "base"):
        model, folder = operated(), tmp_path / kind
        folder.mkdir()
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        settings = FinetuneSettings(epochs=1, limit=64, freeze=kind, batch_size=16)
        train(model, parts(settings), settings, folder, EXAMPLE)
        changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        grafts = tuple(f"{made.path}." for made in list_grafts(model))
        base = {name for name in changed if not name.startswith(grafts)}
        assert any(name.startswith(grafts) for name in changed)
        if kind == "base":
            assert base == {"fc.weight", "fc.bias"}
        else:
            assert "conv1.weight" in base
            assert not [name for name in base if "bn" in name or "downsample.1" in name]


def test_norms_may_train_beside_grafts_while_their_statistics_stay(tmp_path: Any) -> None:
    model = operated()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    settings = FinetuneSettings(epochs=1, limit=64, freeze="base", train_norms=True, batch_size=16)
    train(model, parts(settings), settings, tmp_path, EXAMPLE)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    grafts = tuple(f"{made.path}." for made in list_grafts(model))
    base = {name for name in changed if not name.startswith(grafts)} - {"fc.weight", "fc.bias"}
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.BatchNorm2d)}
    norms = {name for name in norms if not name.startswith(grafts)}
    assert base == {f"{name}.{part}" for name in norms for part in ("weight", "bias")}


@pytest.mark.parametrize(("mark", "first"), [("layer3", "layer3"), ("layer2.1", "layer2.1"), ("3", "layer2")])
def test_freezing_until_a_module_leaves_it_and_what_follows(mark: str, first: str) -> None:
    model = operated(at="layer1.*.bn2")
    kept = freeze(model, FinetuneSettings(freeze=f"until:{mark}"), EXAMPLE)
    training = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    grafts = {f"{made.path}.{name}" for made in list_grafts(model) for name, _ in made.block.named_parameters()}
    names = [name for name, _ in model.named_parameters() if name not in grafts]
    start = next(place for place, name in enumerate(names) if name.startswith(f"{first}."))
    assert training == grafts | set(names[start:])
    frozen = {name for name, module in model.named_modules() if any(module is norm for norm in kept)}
    assert frozen == {name for name in frozen if not f"{name}.".startswith(("layer3", first))}
    assert "bn1" in frozen


def test_freezing_until_what_is_not_there_names_the_nearest() -> None:
    with pytest.raises(TrainingError, match=r"no module 'layer9'.*did you mean layer"):
        freeze(operated(), FinetuneSettings(freeze="until:layer9"), EXAMPLE)
    with pytest.raises(TrainingError, match="6 children"):
        freeze(operated(), FinetuneSettings(freeze="until:6"), EXAMPLE)


def test_layers_far_from_the_head_train_slower_and_grafts_do_not() -> None:
    model = timm.create_model("test_resnet", pretrained=False)
    example = torch.randn(1, 3, 64, 64)
    grafted = insert(model, "se", after="layer1.0.bn2", example=example)
    found = groups(grafted, FinetuneSettings(lr=0.01, layer_decay=0.5))
    rates = {name: group["lr"] for group in found.values() for name in group["names"]}
    layers = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    last = max(layers.values())
    assert {name: rates[name] for name in layers} == {name: 0.01 * 0.5 ** (last - n) for name, n in layers.items()}
    assert {rates[name] for name in rates if name not in layers} == {0.1}
    assert rates["layer1.0.conv1.weight"] < rates["layer4.0.conv1.weight"] < rates["fc.weight"] == 0.01


def test_layers_of_a_network_that_is_not_timms_train_slower_too() -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.backbone = torchvision.models.resnet18()

        def forward(self, x: Tensor) -> Tensor:
            output: Tensor = self.backbone(x)
            return output

    model = Wrapped()
    found = groups(model, FinetuneSettings(lr=0.01, layer_decay=0.5))
    rates = {name: group["lr"] for group in found.values() for name in group["names"]}
    assert rates.keys() == dict(model.named_parameters()).keys()
    order = ["conv1", "layer1.0", "layer1.1", "layer2.0", "layer2.1", "layer3.0", "layer3.1", "layer4.0", "layer4.1"]
    expected = {f"backbone.{layer}": 0.01 * 0.5 ** (9 - number) for number, layer in enumerate([*order, "fc"])}
    expected["backbone.bn1"] = expected["backbone.conv1"]
    for name, rate in rates.items():
        assert rate == expected[next(layer for layer in expected if name.startswith(f"{layer}."))], name


def test_optimizers_are_timms_by_name() -> None:
    made = make_optimizer(operated(), FinetuneSettings(optimizer="lamb", lr=0.02, graft_lr_mult=1))
    assert type(made).__name__ == "Lamb"
    assert {group["lr"] for group in made.param_groups} == {0.02}
    with pytest.raises(TrainingError, match=r"'adamww'.*did you mean adamw"):
        require_optimizer("adamww")
