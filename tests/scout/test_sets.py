"""The arms of a transfer add what they are meant to, and reports have the right numbers."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from attn_surgeon.finetune.parameter_groups import norm_names
from attn_surgeon.scouting.settings import ScoutSettings

from . import arms
from .arms import SET_ARMS, Arms, Candidates
from .differences import difference
from .domains import DOMAINS, folder
from .lines import Lines
from .set_report import set_report
from .sets import Sets
from .training import train_network
from .transfers import TRANSFERS
from .worth import WORTH_ARMS
from .worth_report import draw_worth, gain, worth_report

TINY = replace(TRANSFERS["cifar"].settings, epochs=1, batch_size=8, limit=40)
WITHOUT_PEFT = tuple(name for name in SET_ARMS if "lora" not in name)


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Sets:
    return Sets(TRANSFERS["cifar"], TINY, Lines(tmp_path_factory.mktemp("sets") / "cifar.jsonl"))


def test_arms_add_as_many_parameters_as_they_say(sets: Sets) -> None:
    for name in ("head", "head and norms", "se"):
        sets.run(name, 0)
    lines, start = sets.lines.known, sets.arms.start.model
    norms = sum(start.get_parameter(name).numel() for name in norm_names(start))
    assert lines["head 0"]["parameters"] == 0
    assert lines["head and norms 0"]["parameters"] == norms == 1376
    assert lines["se 0"]["parameters"] == lines["se 0"]["budget"] == 2472
    assert len({lines[f"{name} 0"]["loss"] for name in ("head", "head and norms", "se")}) == 3


@pytest.mark.slow
def test_every_arm_is_trained_within_the_budget(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arms, "USUAL", Candidates(("se", "eca"), ("stages", "residual")))  # fewer, for speed
    monkeypatch.setattr(arms, "WIDE", Candidates(("gct",), ("stages", "convs")))
    monkeypatch.setattr("tests.scout.sets.ScoutSettings", partial(ScoutSettings, trial_steps=1))
    for name in WITHOUT_PEFT:
        sets.run(name, 0)
    sets.try_out(arms.USUAL)
    assert set(sets.lines.known["trial"]["losses"]) == {"head", "head and norms", "head, norms and set"}
    lines = {name: sets.lines.known[f"{name} 0"] for name in WITHOUT_PEFT}
    for name in ("scout", "scout, more sites", "random"):
        assert 0 < lines[name]["parameters"] <= 2472
    assert lines["adapter"]["parameters"] == pytest.approx(2472, rel=0.2)
    more = lines["scout, more sites and norms"]
    assert more["parameters"] == lines["scout, more sites"]["parameters"] + lines["head and norms"]["parameters"]
    assert more["chosen"] == lines["scout, more sites"]["chosen"]
    assert len(lines["random"]["chosen"]) <= len(lines["scout"]["chosen"])
    assert len({line["loss"] for line in lines.values()}) == len(lines)  # all have trained something else


def test_only_what_an_arm_trains_changes(sets: Sets) -> None:
    start = sets.arms.start.model.state_dict()
    arm = sets.arms.make("head and norms", 0)
    train_network(arm.model, sets.arms.start.example, sets._prepared[1], replace(TINY, train_norms=True))
    changed = {name for name, value in arm.model.state_dict().items() if not value.equal(start[name])}
    assert changed == norm_names(arm.model) | {"linear.weight", "linear.bias"}


def test_an_arm_that_is_there_is_not_trained_again(sets: Sets, monkeypatch: pytest.MonkeyPatch) -> None:
    sets.run("head", 0)
    monkeypatch.setattr(Arms, "make", None)
    before = sets.lines.known["head 0"]
    sets.run("head", 0)
    assert sets.lines.known["head 0"] is before


def test_a_difference_is_the_mean_over_seeds_with_an_interval_over_seeds_and_images() -> None:
    dice = np.random.default_rng(0)
    first, second = dice.random((3, 400)), dice.random((3, 400))
    lines = {
        f"{name} {seed}": {"metric": values[seed].mean(), "outcomes": values[seed].tolist()}
        for name, values in (("a", first), ("b", second))
        for seed in range(3)
    }
    mean, low, high = difference(lines, "a", "b", [0, 1, 2])
    assert mean == pytest.approx(100 * (first - second).mean())
    error = 100 * (first - second).std() / 1200**0.5  # images of different seeds are independent here
    assert 2 * 1.6 * error < high - low < 2 * 3.2 * error
    for line in lines.values():  # metrics that are no longer the mean of the outcomes
        line["metric"] += 0.1
    lines["a 0"]["metric"] += 0.1
    mean, low, high = difference(lines, "a", "b", [0, 1, 2])
    metrics = [100 * (lines[f"a {seed}"]["metric"] - lines[f"b {seed}"]["metric"]) for seed in range(3)]
    assert (high - low) / 2 == pytest.approx(4.3027 * np.std(metrics, ddof=1) / 3**0.5, rel=1e-3)


def test_the_tables_have_what_scouts_set_gains_over_each_arm() -> None:
    made = {name: 0.5 + number / 100 for number, name in enumerate(SET_ARMS)}
    lines = {
        f"{name} 0": {"metric": own, "outcomes": [own], "parameters": 7, "budget": 9, "training": 3.0}
        for name, own in made.items()
    }
    rows = [
        line.removesuffix(" |").split(" | ")[4:6]
        for line in set_report(lines).splitlines()
        if line.startswith("| head")
    ]
    assert rows[0] == ["+1.00 (+1.00 … +1.00)", "+2.00 (+2.00 … +2.00)"]
    assert rows[1] == ["-6.00 (-6.00 … -6.00)", "-5.00 (-5.00 … -5.00)"]  # the norms, beside sets without them
    assert rows[2] == rows[0]  # all with the norms
    assert len(rows) == 3


def test_the_gain_is_that_over_the_better_control(tmp_path: Path) -> None:
    accuracies = dict(zip(WORTH_ARMS, (0.6, 0.5, 0.7), strict=True))
    lines = {f"noise, 50 {arm} 0": {"metric": value, "outcomes": [value, value]} for arm, value in accuracies.items()}
    lines["noise, 50 trial"] = {"losses": {"head": 2.0, "head and norms": 1.5, "head, norms and set": 1.75}}
    assert gain(lines, "noise", 50) == pytest.approx((10, 10, 10))  # 0.7 over the head's 0.6
    assert gain(lines, "noise", 500) is None
    assert "| 50 | noise (1 seeds) | 60.0 | 50.0 | 70.0 | +10.00" in worth_report(lines)
    assert worth_report(lines).endswith("| -0.250 |")
    draw_worth(lines).savefig(tmp_path / "worth.png")


def test_a_domain_has_images_of_all_classes_in_turn() -> None:
    for name in ("JPEG files", "noise", "clutter"):
        root = folder(name, 20)
        assert [len(list(own.iterdir())) for own in sorted((root / "train").iterdir())] == [2] * 10
    assert set(DOMAINS) == {"JPEG files", "noise", "clutter", "groceries"}
