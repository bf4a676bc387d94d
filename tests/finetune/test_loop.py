"""One run: what it writes, that it goes on bit for bit where it was ended, and how it stops."""

from __future__ import annotations

import copy
import json
import os
import signal
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon import files
from attn_surgeon.artefact.load import load
from attn_surgeon.errors import TrainingError
from attn_surgeon.finetune import checkpoint, loop
from attn_surgeon.finetune.context import StageContext
from attn_surgeon.finetune.loop import Trained, train
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.tasks.accuracy import measure_accuracy
from attn_surgeon.tasks.base import Score
from attn_surgeon.tasks.classification import Classification
from tests.turns import in_turns

from .helpers import EXAMPLE, operated, parts, same

SETTINGS = FinetuneSettings(epochs=2, batch_size=8, limit=40, lr=3e-3, checkpoint_steps=2)


class Ended(BaseException):
    """Stand for whatever ends a process at once."""


class Noisy(nn.Module):
    """Draw from the random streams while training, as dropout does."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.1, self.training)


def network() -> nn.Module:
    model = operated()
    model.get_submodule("layer2.1").register_module("relu", nn.Sequential(nn.ReLU(), Noisy()))
    return model


def trained(folder: Path, settings: FinetuneSettings = SETTINGS) -> Trained:
    folder.mkdir(exist_ok=True)
    return train(network(), parts(settings), settings, folder, EXAMPLE)


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "images_per_second"} for line in found]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Trained]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, trained(folder)


def test_training_learns_and_writes_a_line_an_epoch(tmp_path: Path) -> None:
    settings = FinetuneSettings(epochs=2, batch_size=16, limit=200, lr=3e-3, label_smoothing=0.1)
    done = train(operated(), parts(settings), settings, tmp_path, EXAMPLE)
    first, last = lines(tmp_path)
    assert [first["epoch"], last["epoch"]] == [1, 2]
    assert (first["step"], last["step"]) == (12, 24)
    assert last["val_top1"] == done.score.metric == sum(done.score.outcomes) / 60
    assert last["train_loss"] < first["train_loss"]


def test_artefacts_load_and_score_what_was_recorded(whole: tuple[Path, Trained], tmp_path: Path) -> None:
    settings = FinetuneSettings(epochs=2, batch_size=16, limit=64, lr=3e-3)
    data = parts(settings)
    done = train(operated(), data, settings, tmp_path, EXAMPLE)
    found = load(tmp_path / "last.safetensors")
    assert same(found, done.model)
    assert measure_accuracy(found, data.val).logits_sha256 == measure_accuracy(done.model, data.val).logits_sha256
    assert measure_accuracy(found, data.val).top1 == done.score.metric
    best = max(line["val_top1"] for line in lines(tmp_path))
    assert measure_accuracy(load(tmp_path / "best.safetensors"), data.val).top1 == best


@pytest.mark.parametrize(("by", "best"), [("metric", 2), ("loss", 1)])
def test_best_is_the_epoch_of_the_highest_metric_or_of_the_lowest_loss(
    by: str, best: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = iter([(0.5, 0.9), (0.4, 0.2), (0.7, 0.3), (0.6, 0.8), (0.0, 0.0)])
    settings, after = replace(SETTINGS, epochs=4, limit=8, best_by=by), loop._after_step
    measured: list[nn.Module] = []

    def score(task: Classification, model: nn.Module, *_: Any) -> Score:
        measured.append(copy.deepcopy(model))
        return Score(*next(told), ())

    def end(context: StageContext) -> None:
        after(context)
        if context.run.state.step == 4:
            raise Ended

    monkeypatch.setattr(Classification, "score", score)
    with monkeypatch.context() as patch, pytest.raises(Ended):
        patch.setattr(loop, "_after_step", end)
        train(operated(), parts(settings), settings, tmp_path, EXAMPLE)
    train(operated(), parts(settings), settings, tmp_path, EXAMPLE)
    found = load(tmp_path / "best.safetensors")
    assert [same(found, model) for model in measured[:4]] == [epoch == best for epoch in range(4)]


def test_bits_are_equal_for_the_same_seed_only(whole: tuple[Path, Trained], tmp_path: Path) -> None:
    torch.manual_seed(77)
    assert same(trained(tmp_path / "again").model, whole[1].model)
    other = FinetuneSettings(**{**SETTINGS.to_dict(), "seed": 1})
    assert not same(trained(tmp_path / "other", other).model, whole[1].model)


@pytest.mark.parametrize("steps", in_turns([5, 1, 8], 3))
def test_a_run_that_was_terminated_resumes_bit_identically(
    whole: tuple[Path, Trained], tmp_path: Path, steps: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, after = tmp_path / "run", loop._after_step

    def end(context: StageContext) -> None:
        after(context)
        if context.run.state.step == steps:
            raise Ended

    with monkeypatch.context() as patch, pytest.raises(Ended):
        patch.setattr(loop, "_after_step", end)
        trained(folder)
    torch.manual_seed(123)
    assert same(trained(folder).model, whole[1].model)
    assert lines(folder) == lines(whole[0])
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole[0].iterdir()}


def test_a_run_killed_while_writing_resumes_from_the_previous_checkpoint(
    whole: tuple[Path, Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sync = tmp_path / "run", files._sync_and_rename
    written: list[Path] = []

    def end(temporary: str, path: Path) -> None:
        if path.suffix != ".safetensors":
            written.append(path)
        if len(written) == 6:
            raise Ended
        sync(temporary, path)

    with monkeypatch.context() as patch, pytest.raises(Ended):
        patch.setattr(files, "_sync_and_rename", end)
        trained(folder)
    assert same(trained(folder).model, whole[1].model)


ADDED: list[dict[str, Any]] = [{"ema": 0.9}, {"accumulate": 2}, {"optimizer": "sgd", "cutmix": 1.0}]


@pytest.mark.parametrize("change", in_turns([ADDED[0] | ADDED[1] | ADDED[2], *ADDED], 4))
def test_resuming_keeps_what_options_add(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = FinetuneSettings(**{**SETTINGS.to_dict(), **change})
    straight, after = trained(tmp_path / "whole", settings), loop._after_step

    def end(context: StageContext) -> None:
        after(context)
        if context.run.state.step == 4:
            raise Ended

    with monkeypatch.context() as patch, pytest.raises(Ended):
        patch.setattr(loop, "_after_step", end)
        trained(tmp_path / "run", settings)
    assert same(trained(tmp_path / "run", settings).model, straight.model)


def test_the_average_of_a_short_run_leaves_its_start(whole: tuple[Path, Trained], tmp_path: Path) -> None:
    averaged = trained(tmp_path / "run", replace(SETTINGS, ema=0.999)).model
    start, end, mean = (
        {name: parameter.detach() for name, parameter in model.named_parameters()}
        for model in (network(), whole[1].model, averaged)
    )
    moved, left = (sum(float((own[name] - start[name]).norm()) for name in start) for own in (end, mean))
    assert 0.3 * moved < left < moved


@pytest.mark.parametrize("number", in_turns([signal.SIGTERM, signal.SIGINT], 2))
def test_a_signal_ends_the_step_and_leaves_a_checkpoint(
    whole: tuple[Path, Trained], tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, before = tmp_path / "run", signal.getsignal(number)
    step = loop._step

    def interrupted(context: StageContext, images: Tensor, labels: Tensor) -> None:
        if context.run.state.step == 2:
            os.kill(os.getpid(), number)
        step(context, images, labels)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_step", interrupted)
        trained(folder)
    assert signal.getsignal(number) is before
    assert torch.load(folder / checkpoint.CHECKPOINT, weights_only=True)["position"]["step"] == 3
    assert same(trained(folder).model, whole[1].model)


def test_numbers_that_are_none_stop_the_run_and_name_the_graft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, step = operated(), loop._step
    graft = list_grafts(model)[1]

    def poisoned(context: StageContext, images: Tensor, labels: Tensor) -> None:
        if context.run.state.step == 5:
            with torch.no_grad():
                next(graft.block.parameters()).fill_(float("nan"))
        step(context, images, labels)

    monkeypatch.setattr(loop, "_step", poisoned)
    with pytest.raises(TrainingError) as caught:
        train(model, parts(SETTINGS), SETTINGS, tmp_path, EXAMPLE)
    assert f"the graft after {graft.graft.site}" in caught.value.what
    assert "step 6 of epoch 2" in caught.value.what
    saved = torch.load(tmp_path / checkpoint.CHECKPOINT, weights_only=True)
    assert saved["position"]["step"] == 5
    assert all(bool(tensor.isfinite().all()) for tensor in saved["model"].values())


def test_a_last_step_that_makes_weights_infinite_writes_no_artefact(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, step = operated(), loop._step
    name = next(name for name, _ in model.named_parameters())

    def overflowing(context: StageContext, images: Tensor, labels: Tensor) -> None:
        step(context, images, labels)
        if context.run.state.step == 4:  # the last of the first epoch
            with torch.no_grad():
                model.get_parameter(name).fill_(float("inf"))

    monkeypatch.setattr(loop, "_step", overflowing)
    with pytest.raises(TrainingError, match=rf"diverged in epoch 1: weights not finite, first {name}.*lower lr"):
        train(model, parts(SETTINGS), SETTINGS, tmp_path, EXAMPLE)
    assert not list(tmp_path.glob("*.safetensors"))


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / checkpoint.CHECKPOINT).write_bytes(b"old")

    def full(state: Any, path: str) -> None:
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(TrainingError, match="No space left on device"):
        checkpoint.write_checkpoint(tmp_path, {"model": nn.Linear(1, 1)}, checkpoint.RunState(), [])
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


@pytest.mark.parametrize(
    "change",
    [
        {"compile": True},
        *in_turns(
            [
                {"channels_last": True, "grad_checkpointing": True},
                {"channels_last": True},
                {"grad_checkpointing": True},
            ],
            3,
        ),
    ],
)
def test_equivalent_computations_make_the_same_steps(
    change: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    # momentum of plain gradients: Adam would make a step of any size of what rounds to zero
    settings = replace(SETTINGS, epochs=1, limit=16, optimizer="sgd", lr=1e-2)
    for name, asked in (("plain", settings), ("other", replace(settings, **change))):
        (tmp_path / name).mkdir()
        train(operated(), parts(asked), asked, tmp_path / name, EXAMPLE)
    plain, other = (load(tmp_path / name / "last.safetensors").state_dict() for name in ("plain", "other"))
    before, names = operated().state_dict(), [name for name, _ in operated().named_parameters()]
    moved = max(float((plain[name].double() - before[name].double()).abs().max()) for name in names)
    for name in names:
        torch.testing.assert_close(other[name], plain[name], rtol=0, atol=0.01 * moved)


def test_a_compilation_error_is_reported_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(graph: Any, inputs: Any) -> Any:
        raise RuntimeError("no C++ compiler")

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=broken))
    with pytest.raises(TrainingError, match=r"torch.compile failed: .*leave compile out"):
        trained(tmp_path / "run", FinetuneSettings(**{**SETTINGS.to_dict(), "compile": True}))


def test_out_of_memory_error_names_options_that_help(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(context: StageContext, value: Tensor, images: Tensor) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "_require_finite", full)
    with pytest.raises(TrainingError, match=r"out of memory.*smaller batch_size than 8.*grad_checkpointing=True"):
        trained(tmp_path / "run")
