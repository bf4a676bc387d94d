"""A network with grafts and its control in the user's own training loop."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

import attn_surgeon
from attn_surgeon import LostGraftError, SurgeonError, compare, graft_parameters, insert, list_grafts, remove
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.errors import ExampleError, SettingsError, TrainingError
from attn_surgeon.finetune.control_run import fine_tune
from attn_surgeon.finetune.job import open_job
from attn_surgeon.finetune.loop import train as train_loop
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks.demo import load_demo

X = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0))
Y = torch.arange(16) % 10
Train = Callable[[nn.Module, int, Path], nn.Module | None]


def operated() -> nn.Module:
    return insert(load_demo(), "se", after=["layer2", "layer3"], example=X[:1])


def train(net: nn.Module, seed: int, folder: Path) -> None:
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02)
    for _ in range(2):
        chosen = torch.randperm(16)[:8]
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(X[chosen]), Y[chosen]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    (folder / "trained").write_text(str(seed))


def correct(net: nn.Module) -> dict[str, list[float]]:
    with torch.no_grad():
        return {"accuracy": (net(X).argmax(1) == Y).double().tolist()}


def test_both_networks_start_with_the_same_seed_and_weights_in_separate_folders(tmp_path: Path) -> None:
    drawn: dict[str, list[float]] = {}
    weights: dict[str, Tensor] = {}
    hidden: dict[str, Tensor] = {}

    def remember(net: nn.Module, seed: int, folder: Path) -> None:
        drawn[folder.name] = torch.rand(2).tolist()
        weights[folder.name] = net.get_parameter("layer1.0.conv1.weight").detach().clone()
        for item in list_grafts(net):
            hidden[f"{folder.name} {item.place}"] = next(item.block.parameters()).detach().clone()
        train(net, seed, folder)

    network = operated()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    result = compare(network, train=remember, evaluate=correct, seeds=[3, 5], out=tmp_path / "run", example=X[:1])
    assert list(drawn) == ["seed-3-grafts", "seed-3-control", "seed-5-grafts", "seed-5-control"]
    assert drawn["seed-3-grafts"] == drawn["seed-3-control"] != drawn["seed-5-grafts"]
    assert all(torch.equal(value, weights["seed-3-grafts"]) for value in weights.values())
    assert torch.equal(hidden["seed-3-grafts after layer3"], next(list_grafts(network)[1].block.parameters()))
    assert not torch.equal(hidden["seed-3-grafts after layer3"], hidden["seed-5-grafts after layer3"])
    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [item.place for item in result.grafts] == ["after layer2", "after layer3"]
    assert [item.parameters for item in result.grafts] == [162, 580]
    document = json.loads((tmp_path / "run" / "comparison.json").read_text())
    assert document == json.loads(json.dumps(result.to_dict()))
    assert (tmp_path / "run" / "comparison.png").read_bytes().startswith(b"\x89PNG")
    assert "accuracy: The evidence does not show whether training with the grafts scores" in str(result)


def test_compare_on_the_demo_equals_finetune_with_a_control(tmp_path: Path) -> None:
    base = open_network("demo")
    network = replace(base, model=insert(base.model, "se", after=["layer2", "layer3"], example=X[:1]))
    settings = FinetuneSettings(epochs=1, limit=60, lr=0.01)
    job = open_job(network, "demo", settings, control=True, seeds=2).at(tmp_path / "theirs")
    val = job.splits.val
    few = replace(val, dataset=Subset(val.dataset, range(100)))
    job = replace(job, splits=replace(job.splits, val=few))
    theirs = fine_tune(job)

    def our_train(net: nn.Module, seed: int, folder: Path) -> nn.Module:
        return train_loop(net, job.splits, replace(settings, seed=seed), folder, network.example).model

    def evaluate(net: nn.Module) -> dict[str, tuple[float, ...]]:
        return {"top1": job.task.score(net, job.splits.val).by_image}

    result = compare(network.model, train=our_train, evaluate=evaluate, seeds=2, out=tmp_path / "ours", bypass=False)
    ours = result.metrics["top1"]
    for arm, values in (("grafts", ours.grafts), ("control", ours.control)):
        assert values == pytest.approx([run[arm]["top1"] for run in theirs["runs"]], abs=1e-12)
    assert ours.interval is not None
    found = (ours.difference, ours.interval.low, ours.interval.high)
    assert found == pytest.approx([theirs["difference"][name] for name in ("estimate", "low", "high")], abs=1e-12)


def test_an_interrupted_comparison_resumes_where_it_stopped(tmp_path: Path) -> None:
    trained: list[str] = []

    def count(net: nn.Module, seed: int, folder: Path) -> None:
        trained.append(folder.name)
        if len(trained) == 3:
            raise KeyboardInterrupt
        train(net, seed, folder)

    whole = compare(operated(), train=train, evaluate=correct, seeds=2, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        compare(operated(), train=count, evaluate=correct, seeds=2, out=tmp_path / "parts")
    told: list[str] = []
    again = compare(operated(), train=count, evaluate=correct, seeds=2, out=tmp_path / "parts", progress=told.append)
    assert trained[3:] == ["seed-1-grafts", "seed-1-control"]
    asked = ["resume after seed-0-control, seed-0-grafts", "4 training runs, 9 evaluations", "train grafts, seed 1"]
    assert told[:3] == asked
    assert again.metrics == whole.metrics
    assert again.grafts == whole.grafts


def test_what_bypassing_a_graft_costs_is_measured(tmp_path: Path) -> None:
    seen: list[float] = []

    def evaluate(net: nn.Module) -> float:
        with torch.no_grad():
            seen.append(float(-nn.functional.cross_entropy(net(X), Y)))
        return seen[-1]

    result = compare(operated(), train=train, evaluate=evaluate, seeds=1, out=tmp_path / "run")
    trained, without_2, without_3 = seen[1:4]  # the first is before training
    costs = [item.bypass_costs["score"] for item in result.grafts]
    assert costs == pytest.approx([trained - without_2, trained - without_3], abs=1e-12)
    assert all(costs)
    assert result.metrics["score"].interval is None
    assert "repeat it with several seeds" in str(result)


def test_a_comparison_interrupted_between_two_bypassed_grafts_does_not_train_again(tmp_path: Path) -> None:
    evaluated, trained = [0], []
    told: list[str] = []

    def evaluate(net: nn.Module) -> object:
        evaluated[0] += 1
        if evaluated[0] == 4:  # before training, after it, without the first graft, without the second
            raise KeyboardInterrupt
        return correct(net)

    def count(net: nn.Module, seed: int, folder: Path) -> None:
        trained.append(folder.name)
        train(net, seed, folder)

    whole = compare(operated(), train=train, evaluate=correct, seeds=1, out=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        compare(operated(), train=count, evaluate=evaluate, seeds=1, out=tmp_path / "parts", progress=told.append)
    assert told[-1] == "evaluate grafts, seed 0, without graft 2 of 2"
    told.clear()
    again = compare(operated(), train=count, evaluate=evaluate, seeds=1, out=tmp_path / "parts", progress=told.append)
    assert trained == ["seed-0-grafts", "seed-0-control"]
    assert told[1] == "seed 0: the effect of 1 of 2 grafts was measured before the interruption"
    assert again.metrics == whole.metrics
    assert again.grafts[0] == whole.grafts[0]
    assert again.grafts[1].bypass_costs == {}


def test_smaller_may_be_better(tmp_path: Path) -> None:
    def evaluate(net: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            loss = float(nn.functional.cross_entropy(net(X), Y))
        return {"loss": loss, "negative": -loss, "mAP": sum(correct(net)["accuracy"]) / len(X)}

    def overtrain(net: nn.Module, seed: int, folder: Path) -> None:
        for _ in range(5 if list_grafts(net) else 1):
            train(net, seed, folder)

    result = compare(
        operated(),
        train=overtrain,
        evaluate=evaluate,
        seeds=2,
        out=tmp_path / "run",
        smaller_is_better=["loss"],
    )
    loss, negative = result.metrics["loss"], result.metrics["negative"]
    assert (loss.smaller_is_better, negative.smaller_is_better) == (True, False)
    assert loss.difference == pytest.approx(-negative.difference, abs=1e-12)
    assert loss.difference < 0
    assert "lower (better)" in loss.verdict
    assert "points" not in loss.verdict
    assert "better" not in negative.verdict
    for item in result.grafts:
        assert item.bypass_costs["loss"] == pytest.approx(item.bypass_costs["negative"], abs=1e-12)
        assert item.bypass_costs["loss"] != 0
    with pytest.raises(SettingsError, match="no metric is named los; smaller_is_better; did you mean loss"):
        compare(operated(), train=train, evaluate=evaluate, out=tmp_path / "other", smaller_is_better=["los"])


def test_a_graft_without_which_there_is_no_metric_has_no_effect_in_numbers(tmp_path: Path) -> None:
    def evaluate(net: nn.Module) -> dict[str, object]:
        bypassed = any("lambda" in repr(vars(item.block).get("forward")) for item in list_grafts(net))
        return {"accuracy": correct(net)["accuracy"], "loss": float("nan") if bypassed else 1.0}

    result = compare(operated(), train=train, evaluate=evaluate, seeds=1, out=tmp_path / "run")
    assert [list(item.bypass_costs) for item in result.grafts] == [["accuracy"], ["accuracy"]]


def rebuilt(net: nn.Module, seed: int, folder: Path) -> nn.Module:
    """Train what ultralytics' trainer trains: a network built anew, without grafts."""
    other = load_demo()
    train(other, seed, folder)
    return other


def frozen(net: nn.Module, seed: int, folder: Path) -> None:
    for parameter in graft_parameters(net):
        parameter.requires_grad_(False)
    train(net, seed, folder)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (rebuilt, LostGraftError, "no graft after layer2, after layer3: the trainer trained another network"),
        (frozen, TrainingError, "training has changed no graft"),
        (lambda net, seed, folder: "best.pt", TrainingError, "train returned str, not a network"),
    ],
)
def test_a_training_that_leaves_the_grafts_out_raises(
    tmp_path: Path, wrong: Train, error: type[SurgeonError], message: str
) -> None:
    with pytest.raises(error, match=message):
        compare(operated(), train=wrong, evaluate=correct, out=tmp_path / "run")


def test_an_evaluation_that_leaves_the_grafts_out_raises(tmp_path: Path) -> None:
    with pytest.raises(LostGraftError, match="do not run when the trained network is evaluated"):
        compare(operated(), train=train, evaluate=lambda net: correct(remove(net)), out=tmp_path / "run")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (float("nan"), "score is not finite"),
        ([], "score has no values"),
        (np.array([[1.0]]), "score is ndarray, not a number"),
        ({}, "returned no metric"),
        ("0.5 %", "score is str, not a number"),
        ({"mAP": [0.5, 30.0]}, "not from 0 to 1"),
    ],
)
def test_values_that_are_none_raise(tmp_path: Path, value: object, message: str) -> None:
    with pytest.raises(TrainingError, match=message):
        compare(operated(), train=train, evaluate=lambda net: value, out=tmp_path / "run")


def test_requests_that_cannot_be_carried_out_raise_before_training(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no grafts"):
        compare(load_demo(), train=train, evaluate=correct, out=tmp_path / "run")
    with pytest.raises(SettingsError, match="invalid seeds"):
        compare(operated(), train=train, evaluate=correct, seeds=[1, 1], out=tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("mine")
    with pytest.raises(SettingsError, match="not empty"):
        compare(operated(), train=train, evaluate=correct, out=tmp_path / "full")
    compare(operated(), train=train, evaluate=correct, seeds=1, out=tmp_path / "run")
    other = insert(load_demo(), "eca", after="layer3", example=X[:1])
    with pytest.raises(SettingsError, match="this comparison is finished"):
        compare(operated(), train=train, evaluate=correct, seeds=1, out=tmp_path / "run")
    (tmp_path / "run" / "comparison.json").unlink()
    with pytest.raises(SettingsError, match="a comparison of another network"):
        compare(other, train=train, evaluate=correct, seeds=1, out=tmp_path / "run")
    with pytest.raises(SettingsError, match="a comparison of another training loop"):
        compare(operated(), train=rebuilt, evaluate=correct, seeds=1, out=tmp_path / "run")
    with pytest.raises(SettingsError, match="train cannot be called: too many positional arguments"):
        compare(operated(), train=lambda net: None, evaluate=correct, out=tmp_path / "new")  # type: ignore[arg-type, misc]


@pytest.mark.parametrize(
    ("network", "message"),
    [
        (lambda: operated().to("meta"), "the network has no values: it is on the meta device"),
        (lambda: with_lock(operated()), "the network cannot be copied: cannot pickle '_thread.lock' object"),
    ],
)
def test_networks_that_cannot_be_compared_raise(tmp_path: Path, network: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        compare(network(), train=train, evaluate=correct, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def with_lock(net: nn.Module) -> nn.Module:
    vars(net)["lock"] = threading.Lock()
    return net


@pytest.mark.parametrize("seeds", [0, [], [1, 1], [-1], [2**32], "three", 1.5, None])
def test_seeds_that_are_none_raise(tmp_path: Path, seeds: Any) -> None:
    with pytest.raises(SettingsError, match="invalid seeds"):
        compare(operated(), train=train, evaluate=correct, seeds=seeds, out=tmp_path / "run")


def test_networks_of_several_inputs_are_compared(tmp_path: Path) -> None:
    network = insert(Two(), "se", after=["a", "b"], example=(X[:1], X[:1]))

    def train_two(net: nn.Module, seed: int, folder: Path) -> None:
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(X, y=X), Y).backward()  # type: ignore[no-untyped-call]
            optimizer.step()

    def evaluate(net: nn.Module) -> object:
        with torch.no_grad():
            return {"accuracy": (net(X, X).argmax(1) == Y).numpy()}

    with pytest.raises(ExampleError, match="the network does not run on the example"):
        compare(network, train=train_two, evaluate=evaluate, seeds=1, out=tmp_path / "run", example=X[:1])
    example = {"x": X[:1], "y": X[:1]}
    result = compare(network, train=train_two, evaluate=evaluate, seeds=1, out=tmp_path / "run", example=example)
    assert [item.macs for item in result.grafts] == [32, 32]
    assert [item.changed for item in result.grafts] == [True, True]
    assert result.latency_ms is None


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(1, 8, 3, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        output: Tensor = self.head((self.a(x) + self.b(y)).mean((2, 3)))
        return output


def test_evaluations_have_as_many_images(tmp_path: Path) -> None:
    lengths = iter([16, 15])

    def evaluate(net: nn.Module) -> dict[str, list[float]]:
        return {"accuracy": correct(net)["accuracy"][: next(lengths)]}

    with pytest.raises(TrainingError, match="returned 15 values of accuracy after training, and 16 before; grafts, se"):
        compare(operated(), train=train, evaluate=evaluate, out=tmp_path / "run")


def test_evaluations_return_the_same_metrics(tmp_path: Path) -> None:
    names = iter(["before", "after", "after", "after"])
    with pytest.raises(TrainingError, match="evaluate returned after after training, and before before"):
        compare(
            operated(),
            train=train,
            evaluate=lambda net: {next(names): correct(net)["accuracy"]},
            seeds=1,
            out=tmp_path / "run",
            bypass=False,
        )


def test_disabled_grafts_come_back(tmp_path: Path) -> None:
    network = operated()
    train(network, 0, tmp_path)
    output = network(X)
    with attn_surgeon.disabled(network, "layer3"):
        assert torch.equal(network(X), remove(network, "layer3")(X))
        assert not torch.equal(network(X), output)
    assert torch.equal(network(X), output)
    assert len(list_grafts(network)) == 2
    with pytest.raises(SurgeonError, match="no graft is at 'layer9'"), attn_surgeon.disabled(network, "layer9"):
        pass
