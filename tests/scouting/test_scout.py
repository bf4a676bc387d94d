"""Scouting from data to a recipe: the head, the groups, the budget, the plan and the report."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.artefact.recipe import read_recipe
from attn_surgeon.data.settings import DataSettings
from attn_surgeon.data.splits import open_labelled_splits
from attn_surgeon.errors import BlockError, DataError, SettingsError
from attn_surgeon.operations.insert import insert
from attn_surgeon.scouting.batches import draw_batches
from attn_surgeon.scouting.head import fit_linear_head
from attn_surgeon.scouting.result import Scouting
from attn_surgeon.scouting.scout import scout
from attn_surgeon.scouting.settings import ScoutSettings
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.settings import TaskSettings

QUICK = ScoutSettings(batches=6, batch_size=16, head_images=64, trial_steps=2)


@pytest.fixture(scope="module")
def found() -> Scouting:
    return scout("demo", data="demo", blocks=["se", "gc"], at="stages", budget="1%", settings=QUICK)


def test_the_set_fits_the_budget_and_its_recipe_inserts_it(found: Scouting, tmp_path: Path) -> None:
    added = sum(each.cost.parameters for each in found.chosen)
    assert found.budget.parameters == 0.01 * found.base.parameters
    assert 0 < added <= found.budget.parameters
    found.save(tmp_path / "plan.yaml")
    read = read_recipe(str(tmp_path / "plan.yaml"))
    assert read.source.name == "demo"
    network = open_network("demo")
    model = network.model
    for operation in found.operations:
        model = insert(model, example=network.example, **operation)
    assert {(item.place, item.graft.block["name"]) for item in list_grafts(model)} == {
        (each.candidate.place, each.candidate.block) for each in found.chosen
    }
    assert torch.equal(model(network.example), network.model(network.example))
    assert yaml.safe_load((tmp_path / "plan.yaml").read_text())["operations"][0]["insert"]["block"] in ("se", "gc")


def test_the_same_seed_gives_the_same_scores_in_one_group_or_several(
    found: Scouting, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("attn_surgeon.scouting.scout.NOTED_LATENCY", 0.0)
    one_by_one = replace(QUICK, at_once=3, trial_steps=0)
    again = scout("demo", data="demo", blocks=["se", "gc"], at="stages", budget="1%", settings=one_by_one)
    assert [each.candidate for each in again.candidates] == [each.candidate for each in found.candidates]
    for first, second in zip(found.candidates, again.candidates, strict=True):
        assert second.scores["gain"].value == pytest.approx(first.scores["gain"].value, rel=1e-4)
    added = sum(each.cost.seconds for each in again.chosen) / again.base.seconds
    noted = f"the set adds {added:.0%} to the measured latency, which was not limited; latency=0% limits it"
    assert str(again).endswith(noted)
    assert again.trial is None


def test_the_columns_are_explained(found: Scouting) -> None:
    assert found.table.columns[2:6] == ("round", "score (l1)", "± s.e.", "when chosen")
    assert found.table.rows[0][2] == "1"
    assert [line.partition(":")[0] for line in found.legend.splitlines()] == ["round", "score (l1)", "when chosen"]
    assert found.legend in str(found)
    none = tuple(replace(each, round=None, when_chosen=None) for each in found.candidates)
    assert replace(found, candidates=none).legend.partition(":")[0] == "score (l1)"


def test_the_report_is_plain_and_honest(found: Scouting) -> None:
    document = json.loads(json.dumps(found.to_dict()))
    assert len(document["candidates"]) == 6
    assert document["candidates"][0]["candidate"] == {"site": "layer1", "side": "after", "block": "se"}
    assert "do not say how much accuracy" in " ".join(str(found).split())
    assert document["images"] == document["trial"]["images"] == 96  # as many validation images
    assert set(document["trial"]["losses"]) == {"head", "head and norms", "head, norms and set"}
    assert "In a trial of 2 steps the loss on 96 validation images was" in str(found)


def test_a_head_is_fitted_to_the_minimum_on_frozen_features() -> None:
    network, task, settings = open_network("demo"), get_task("classification"), TaskSettings(augment=False)
    splits = open_labelled_splits("demo-clutter", network.preprocessing, DataSettings(limit=96))
    draws = draw_batches(splits, 4, 8, 64, 0)
    assert not {tuple(x.flatten().tolist()) for x in draws.scored[0][0]} & {
        tuple(x.flatten().tolist()) for batch, _ in draws.head for x in batch
    }
    images, labels = (torch.cat(parts) for parts in zip(*draws.head, strict=True))
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    with torch.no_grad():
        loss = task.loss(network.model(images), labels, settings)
    fit_linear_head(network.model, network.example, task, settings, draws.head)
    with torch.no_grad():
        assert float(task.loss(network.model(images), labels, settings)) < 0.3 * float(loss)
    changed = [name for name, value in network.model.state_dict().items() if not torch.equal(value, before[name])]
    assert changed == ["fc.weight", "fc.bias"]


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(BlockError, match="did you mean se"):
        scout("demo", data="demo", blocks=["see"])
    with pytest.raises(SettingsError, match="no score is called 'gian'; score; did you mean gain"):
        ScoutSettings(score="gian")
    with pytest.raises(SettingsError, match="batches must be at least 1"):
        ScoutSettings(batches=0)
    few = r"the 629 images .* few for 4 batches of 400; .* batch_size; at least 4 are needed .* batch_size=157 or less"
    with pytest.raises(DataError, match=few):
        scout("demo", data="demo", blocks=["se"], settings=ScoutSettings(batch_size=400))
    with pytest.raises(DataError, match=r"3 batches; batches; at least 4 are needed .* batches=4 or more"):
        scout("demo", data="demo", blocks=["se"], settings=ScoutSettings(batches=3))
    five = open_labelled_splits("demo", open_network("demo").preprocessing, DataSettings(limit=5))
    with pytest.raises(DataError, match="add images, 8 at the least"):
        draw_batches(five, 4, 8, 8, 0)
