"""The control: the same head, order, images and budget, and a sentence that claims no more than was seen."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.errors import SurgeonError
from attn_surgeon.finetune import loop
from attn_surgeon.finetune.context import StageContext
from attn_surgeon.finetune.control_run import fine_tune, network_of
from attn_surgeon.finetune.job import FinetuneJob, check_job
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.surgery.installed_grafts import bypassed, list_grafts
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.accuracy import measure_accuracy
from attn_surgeon.tasks.statistics import image_interval, mcnemar

from .helpers import equal, loaded, parts, same

TASK = get_task("classification")
SETTINGS = FinetuneSettings(epochs=1, batch_size=16, limit=64, lr=3e-3)


def job(folder: Path, **changes: Any) -> FinetuneJob:
    return replace(FinetuneJob(loaded(), parts(SETTINGS), SETTINGS, folder), **changes)


def test_the_control_is_the_original_and_starts_from_the_same_head() -> None:
    start = loaded()
    assert same(network_of(start, grafts=False), load_demo())
    assert list_grafts(network_of(start, grafts=False)) == []
    assert same(network_of(start, grafts=True), start.model)


def test_both_see_the_same_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []
    step = loop._step

    def noting(run: StageContext, images: Tensor, labels: Tensor) -> None:
        seen.append(images.clone())
        step(run, images, labels)

    monkeypatch.setattr(loop, "_step", noting)
    fine_tune(job(tmp_path, control=True))
    assert len(seen) == 8
    assert equal(seen[:4], seen[4:])


def test_progress_names_each_phase_and_counts_its_images_or_batches(tmp_path: Path) -> None:
    reports: list[tuple[str, int, int]] = []
    fine_tune(job(tmp_path, control=True), lambda *report: reports.append(report))
    grafts = list_grafts(loaded().model)
    bypassed = [f"evaluate, graft {number} of {len(grafts)} bypassed" for number in range(1, len(grafts) + 1)]
    arm = ["fine-tune", "evaluate"]
    assert [phase for phase, _ in groupby(reports, lambda report: report[0])] == [
        "evaluate before training", *arm, *bypassed, *arm
    ]  # fmt: skip
    assert [report for report in reports if report[0] == "fine-tune"] == [("fine-tune", n, 8) for n in range(1, 9)]
    evaluated = [report[1:] for report in reports if report[0] != "fine-tune"]
    assert evaluated == [(60, 60)] * (1 + 2 * 2 + len(grafts))


def test_the_comparison_is_what_the_artefacts_give(tmp_path: Path) -> None:
    todo = job(tmp_path, control=True, seeds=2)
    result = fine_tune(todo)
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(json.dumps(result))
    differences, by_image = [], []
    for run in result["runs"]:
        right = {}
        for arm in ("grafts", "control"):
            model = network_of(todo.network, grafts=arm == "grafts")
            saved = torch.load(tmp_path / f"seed-{run['seed']}-{arm}" / "checkpoint.pt", weights_only=True)
            model.load_state_dict(saved["model"])
            assert measure_accuracy(model, todo.splits.val).top1 == run[arm]["top1"]
            right[arm] = TASK.score(model, todo.splits.val).outcomes
        differences.append(sum(right["grafts"]) / 60 - sum(right["control"]) / 60)
        by_image.append([ours - theirs for ours, theirs in zip(right["grafts"], right["control"], strict=True)])
    found, mean = result["difference"], [sum(image) for image in zip(*by_image, strict=True)]
    assert found["estimate"] == pytest.approx(sum(differences) / 2)
    assert found["high"] - found["estimate"] == pytest.approx(found["estimate"] - found["low"])
    assert result["by_image"] == {"better": sum(own > 0 for own in mean), "worse": sum(own < 0 for own in mean)}
    assert "mcnemar" not in result
    assert "2 training runs of each, 60 images" in result["verdict"]


def test_one_seed_takes_the_interval_over_images(tmp_path: Path) -> None:
    result = fine_tune(job(tmp_path, control=True))
    test, found = result["mcnemar"], result["difference"]
    ours, theirs = test["only_grafts"], test["only_control"]
    assert test["p"] == mcnemar(ours, theirs)
    expected = image_interval([1] * ours + [-1] * theirs + [0] * (60 - ours - theirs))
    assert [found[name] for name in ("estimate", "low", "high")] == pytest.approx(list(vars(expected).values()))
    assert result["verdict"].endswith("repeat it with several seeds.")


def test_bypass_costs_equal_a_direct_measurement(tmp_path: Path) -> None:
    todo = job(tmp_path)
    result = fine_tune(todo)
    model = network_of(todo.network, grafts=True)
    model.load_state_dict(torch.load(tmp_path / "checkpoint.pt", weights_only=True)["model"])
    open_top1 = measure_accuracy(model, todo.splits.val).top1
    for graft, made in zip(result["grafts"], list_grafts(model), strict=True):
        with bypassed([made.block]):
            assert graft["closing_costs"] == [open_top1 - measure_accuracy(model, todo.splits.val).top1]
    assert result["added"]["parameters"] == sum(
        parameter.numel() for made in list_grafts(model) for parameter in made.block.parameters()
    )
    assert min(result["added"][f"{name}_spread_ms"] for name in ("latency", "latency_without")) >= 0
    assert "verdict" not in result


def test_what_cannot_be_compared_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    plain = LoadedNetwork(set_provenance(load_demo(), loaded().provenance))
    with pytest.raises(SurgeonError, match="no grafts"):
        check_job(job(tmp_path, network=plain, control=True))


def test_a_network_whose_head_is_new_teaches_nothing(tmp_path: Path) -> None:
    settings = replace(SETTINGS, distill=0.5)
    check_job(job(tmp_path, settings=settings))
    three = TASK.fit_head(loaded(), ("a", "b", "c"), SETTINGS)
    assert three.fresh == ("fc",)
    with pytest.raises(SurgeonError, match="distillation needs the original head"):
        check_job(job(tmp_path, network=three, settings=settings))
