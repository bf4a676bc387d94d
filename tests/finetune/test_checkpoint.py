"""Checkpoints of earlier versions: the optimizer's state belongs to parameters, in whatever order they come."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from attn_surgeon.finetune.checkpoint import in_order
from attn_surgeon.finetune.parameter_groups import make_optimizer
from attn_surgeon.finetune.settings import FinetuneSettings

from .helpers import operated

SETTINGS = FinetuneSettings(lr=0.01, weight_decay=0.1)


def stepped(model: nn.Module) -> torch.optim.Optimizer:
    optimizer = make_optimizer(model, SETTINGS)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    optimizer.step()
    return optimizer


def as_before(state: dict[str, Any]) -> dict[str, Any]:
    """Number the parameters as if grafts came last, and their groups first."""
    groups = []
    for group in reversed(state["param_groups"]):
        pairs = sorted(zip(group["names"], group["params"], strict=True), key=lambda pair: "attn_surgeon" in pair[0])
        groups.append(group | {"names": [name for name, _ in pairs], "params": [number for _, number in pairs][::-1]})
        groups[-1]["names"] = groups[-1]["names"][::-1]
    return {"state": state["state"], "param_groups": groups}


def test_moments_come_back_to_their_own_parameters() -> None:
    model = operated()
    optimizer = stepped(model)
    expected = [optimizer.state[parameter]["exp_avg"].clone() for parameter in model.parameters()]
    saved = as_before(copy.deepcopy(optimizer.state_dict()))
    assert saved["param_groups"][0]["names"] != optimizer.state_dict()["param_groups"][0]["names"]
    again = make_optimizer(model, SETTINGS)
    again.load_state_dict(in_order(saved, again))
    got = [again.state[parameter]["exp_avg"] for parameter in model.parameters()]
    assert all(torch.equal(one, other) for one, other in zip(got, expected, strict=True))


def test_a_state_of_other_parameters_is_left_to_the_optimizer() -> None:
    model = operated()
    saved = copy.deepcopy(stepped(model).state_dict())
    saved["param_groups"][0]["names"][0] = "another"
    assert in_order(saved, make_optimizer(model, SETTINGS)) is saved
