"""The checks of a comparison hold for networks that a trainer has wrapped, averaged or converted."""

from __future__ import annotations

import copy
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from attn_surgeon import LostGraftError, compare, graft_parameters, insert, list_grafts
from attn_surgeon.control.arms import Evaluate, Train
from attn_surgeon.errors import TrainingError
from attn_surgeon.surgery.rewrite.grafts import RESERVED

from .test_compare import X, Y, correct, operated, train


class Task(nn.Module):
    """What a LightningModule is: a module around the network, here with an average of its weights."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net, self.average = net, copy.deepcopy(net)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.average(x)
        return output


def task(net: nn.Module, seed: int, folder: Path) -> nn.Module:
    whole = Task(net)
    train(whole.net, seed, folder)
    whole.average.load_state_dict(net.state_dict())
    return whole


def averaged(net: nn.Module, seed: int, folder: Path) -> nn.Module:
    average = AveragedModel(net)
    train(net, seed, folder)
    average.update_parameters(net)
    return average


def compiled(net: nn.Module, seed: int, folder: Path) -> nn.Module:
    train(net, seed, folder)
    faster: Any = torch.compile(net, backend="eager", fullgraph=True)
    with torch.no_grad():
        faster(X)
    return faster  # type: ignore[no-any-return]


def half(net: nn.Module, seed: int, folder: Path) -> nn.Module:
    train(net, seed, folder)
    return nn.Sequential(net.to(torch.bfloat16))


def correct_in_half(net: nn.Module) -> object:
    with torch.no_grad():
        return (net(X.to(next(net.parameters()).dtype)).argmax(1) == Y).double()


@pytest.mark.parametrize("wrap", [task, averaged, compiled, half])
def test_wrapped_networks_are_evaluated_as_the_plain_one(tmp_path: Path, wrap: Train) -> None:
    evaluate: Evaluate = correct_in_half if wrap is half else lambda net: correct(net)["accuracy"]
    plain = compare(operated(), train=train, evaluate=correct, seeds=1, out=tmp_path / "plain")
    wrapped = compare(operated(), train=wrap, evaluate=evaluate, seeds=1, out=tmp_path / "wrapped")
    ours, theirs = wrapped.metrics["score"], plain.metrics["accuracy"]
    tolerance = 1.5 / len(X) if wrap is half else 0
    assert ours.grafts == pytest.approx(theirs.grafts, abs=tolerance)
    assert ours.control == pytest.approx(theirs.control, abs=tolerance)
    assert [item.place for item in wrapped.grafts] == ["after layer2", "after layer3"]
    assert wrap is half or [list(item.bypass_costs.values()) for item in wrapped.grafts] == [
        list(item.bypass_costs.values()) for item in plain.grafts
    ]


def conversion_alone(net: nn.Module, seed: int, folder: Path) -> nn.Module:
    return net.to(torch.bfloat16)


def statistics_alone(net: nn.Module, seed: int, folder: Path) -> None:
    """Train all but the grafts: the running statistics of their BatchNorms change all the same."""
    grafts = {id(parameter) for parameter in graft_parameters(net)}
    optimizer = torch.optim.SGD([p for p in net.parameters() if id(p) not in grafts], lr=0.02)
    nn.functional.cross_entropy(net.train()(X), Y).backward()  # type: ignore[no-untyped-call]
    optimizer.step()


@pytest.mark.parametrize("wrong", [conversion_alone, statistics_alone])
def test_grafts_have_changed_only_where_their_parameters_have(tmp_path: Path, wrong: Train) -> None:
    network = insert(operated(), "cbam", after="layer1", example=X[:1])
    assert any("running_mean" in name and RESERVED in name for name in network.state_dict())
    with pytest.raises(TrainingError, match="training has changed no graft; after layer1, after layer2, after layer3"):
        compare(network, train=wrong, evaluate=correct, seeds=1, out=tmp_path / "run")


def test_raises_if_a_trainer_trains_another_network_than_the_control(tmp_path: Path) -> None:
    network = operated()

    def train_outer(net: nn.Module, seed: int, folder: Path) -> nn.Module:
        train(network, seed, folder)
        return network

    with pytest.raises(TrainingError, match="the trained control has grafts"):
        compare(network, train=train_outer, evaluate=correct, seeds=1, out=tmp_path / "run")


def test_an_average_without_grafts_raises(tmp_path: Path) -> None:
    def without(net: nn.Module, seed: int, folder: Path) -> nn.Module:
        whole = Task(net)
        train(net, seed, folder)
        whole.average = nn.Sequential(*list(net.children())[:0])
        return whole

    with pytest.raises(LostGraftError, match="the grafts after layer2, after layer3 do not run"):
        compare(operated(), train=without, evaluate=lambda net: net(X).detach().sum(), seeds=1, out=tmp_path / "run")


def test_grafts_at_one_place_have_different_names(tmp_path: Path) -> None:
    network = insert(operated(), "eca", after="layer3", example=X[:1])
    costs: dict[str, float] = {}

    def evaluate(net: nn.Module) -> float:
        with torch.no_grad():
            return float(-nn.functional.cross_entropy(net(X), Y))

    def keep(net: nn.Module, seed: int, folder: Path) -> None:
        train(net, seed, folder)
        for number, item in enumerate(list_grafts(net)):
            states = {id(parameter): parameter.detach().clone() for parameter in item.block.parameters()}
            whole = evaluate(net.eval())
            with torch.no_grad():
                close(item.block)
            costs[str(number)] = whole - evaluate(net)
            with torch.no_grad():
                for parameter in item.block.parameters():
                    parameter.copy_(states[id(parameter)])

    result = compare(network, train=keep, evaluate=evaluate, seeds=1, out=tmp_path / "run", example=X[:1])
    assert [item.place for item in result.grafts] == ["after layer2", "after layer3", "after layer3 (2)"]
    assert [item.parameters for item in result.grafts] == [162, 580, 3]
    assert [item.bypass_costs["score"] for item in result.grafts] == pytest.approx(list(costs.values()), abs=1e-6)


def close(block: nn.Module) -> None:
    """Zero the last parameters of a block, which makes it the identity."""
    named = dict(block.named_parameters())
    last = list(named)[-1].rpartition(".")[0]
    for name, parameter in named.items():
        if name.rpartition(".")[0] == last:
            parameter.zero_()


def test_training_is_in_train_mode_and_evaluations_in_eval_mode_with_equal_draws(tmp_path: Path) -> None:
    drawn: list[tuple[float, float]] = []

    def evaluate(net: nn.Module) -> dict[str, list[float]]:
        assert not any(module.training for module in net.modules())
        drawn.append((float(torch.rand(())), random.random()))
        return correct(net)

    def train_and_draw(net: nn.Module, seed: int, folder: Path) -> None:
        assert all(module.training for module in net.modules())
        train(net, seed, folder)
        torch.rand(len(list_grafts(net)) + seed)

    network, state = operated(), torch.get_rng_state()
    compare(network, train=train_and_draw, evaluate=evaluate, seeds=2, out=tmp_path / "run")
    assert len(drawn) == 1 + 2 * (1 + 2 + 1)
    assert len(set(drawn)) == 1
    assert torch.equal(torch.get_rng_state(), state)
