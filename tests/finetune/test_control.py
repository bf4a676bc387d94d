"""The control: the same head, order, images and budget, and a sentence that claims no more than was seen."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.errors import SurgeonError
from attn_surgeon.evaluate.accuracy import evaluate
from attn_surgeon.evaluate.statistics import Interval, exact_interval, mcnemar, t_interval
from attn_surgeon.finetune import loop
from attn_surgeon.finetune.comparison import verdict
from attn_surgeon.finetune.control import Job, check, fine_tune, network
from attn_surgeon.finetune.preparation import Run
from attn_surgeon.finetune.settings import Settings
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.surgery.installed import bypassed, list_grafts
from attn_surgeon.tasks.classification import score
from attn_surgeon.tasks.head import fitted

from .helpers import equal, loaded, parts, same

SETTINGS = Settings(epochs=1, batch_size=16, limit=64, lr=3e-3)


def job(folder: Path, **changes: Any) -> Job:
    return replace(Job(loaded(), parts(SETTINGS), SETTINGS, folder), **changes)


def test_the_control_is_the_original_and_starts_from_the_same_head() -> None:
    start = loaded()
    assert same(network(start, grafts=False), load_demo())
    assert list_grafts(network(start, grafts=False)) == []
    assert same(network(start, grafts=True), start.model)


def test_both_see_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    step = loop._step

    def noting(run: Run, images: Tensor, labels: Tensor) -> None:
        seen.append(images.clone())
        step(run, images, labels)

    monkeypatch.setattr(loop, "_step", noting)
    fine_tune(job(tmp_path, control=True))
    assert len(seen) == 8
    assert equal(seen[:4], seen[4:])


def test_the_comparison_is_what_the_artefacts_give(tmp_path: Path) -> None:
    todo = job(tmp_path, control=True, seeds=2)
    result = fine_tune(todo)
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(json.dumps(result))
    differences, counts = [], [0, 0]
    for run in result["runs"]:
        right = {}
        for arm in ("grafts", "control"):
            model = network(todo.loaded, grafts=arm == "grafts")
            saved = torch.load(tmp_path / f"seed-{run['seed']}-{arm}" / "checkpoint.pt", weights_only=True)
            model.load_state_dict(saved["model"])
            assert evaluate(model, todo.parts.val).top1 == run[arm]["top1"]
            right[arm] = score(model, todo.parts).outcomes
        differences.append(sum(right["grafts"]) / 60 - sum(right["control"]) / 60)
        both = list(zip(right["grafts"], right["control"], strict=True))
        counts[0] += both.count((1.0, 0.0))
        counts[1] += both.count((0.0, 1.0))
    expected = t_interval(differences)
    assert result["difference"]["estimate"] == pytest.approx(expected.estimate)
    assert (result["difference"]["low"], result["difference"]["high"]) == pytest.approx((expected.low, expected.high))
    assert [result["mcnemar"][name] for name in ("only_grafts", "only_control")] == counts
    assert result["mcnemar"]["p"] == mcnemar(*counts)


def test_one_seed_takes_the_interval_over_images(tmp_path: Path) -> None:
    result = fine_tune(job(tmp_path, control=True))
    test, found = result["mcnemar"], result["difference"]
    expected = exact_interval(test["only_grafts"], test["only_control"], 60)
    assert (found["estimate"], found["low"], found["high"]) == (expected.estimate, expected.low, expected.high)
    assert "one training run only" in result["verdict"]


def test_closing_a_graft_costs_what_a_plain_measurement_says(tmp_path: Path) -> None:
    todo = job(tmp_path)
    result = fine_tune(todo)
    model = network(todo.loaded, grafts=True)
    model.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"])
    open_top1 = evaluate(model, todo.parts.val).top1
    for graft, made in zip(result["grafts"], list_grafts(model), strict=True):
        with bypassed([made.block]):
            assert graft["closing_costs"] == [open_top1 - evaluate(model, todo.parts.val).top1]
    assert result["added"]["parameters"] == sum(
        parameter.numel() for made in list_grafts(model) for parameter in made.block.parameters()
    )
    assert "verdict" not in result


@pytest.mark.parametrize(
    ("interval", "said"),
    [
        (Interval(0.01, 0.002, 0.018), "a gain from"),
        (Interval(-0.01, -0.018, -0.002), "a loss from"),
        (Interval(0.01, -0.001, 0.021), "neither a gain nor a loss from"),
        (Interval(0.0, 0.0, 0.0), "neither a gain nor a loss from"),
    ],
)
def test_the_verdict_follows_the_interval(interval: Interval, said: str) -> None:
    assert said in verdict(interval, 3)
    assert "over 3 seeds" in verdict(interval, 3)


def test_what_cannot_be_compared_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    plain = LoadedNetwork(set_provenance(load_demo(), loaded().provenance))
    with pytest.raises(SurgeonError, match="no grafts"):
        check(job(tmp_path, loaded=plain, control=True))


def test_a_network_whose_head_is_new_teaches_nothing(tmp_path: Path) -> None:
    settings = replace(SETTINGS, distill=0.5)
    check(job(tmp_path, settings=settings))
    three = fitted(loaded(), ("a", "b", "c"), 0)
    assert three.fresh == ("fc",)
    with pytest.raises(SurgeonError, match="head is new has nothing to teach"):
        check(job(tmp_path, loaded=three, settings=settings))
