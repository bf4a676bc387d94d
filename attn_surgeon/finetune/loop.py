"""Train one network: epochs of steps, each epoch measured, written and checkpointed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.data import processes
from attn_surgeon.data.parts import Parts
from attn_surgeon.errors import first_line
from attn_surgeon.evaluate.accuracy import batches
from attn_surgeon.finetune.checkpoint import NAME, has_checkpoint, random_states, write_checkpoint
from attn_surgeon.finetune.freezing import start_training
from attn_surgeon.finetune.precision import take_off_casts
from attn_surgeon.finetune.preparation import Run, begin, layout, prepared
from attn_surgeon.finetune.record import write_epoch
from attn_surgeon.finetune.settings import Settings, TrainingError
from attn_surgeon.finetune.stopping import first_bad, signals
from attn_surgeon.progress import Progress
from attn_surgeon.tasks.base import Score, Task, get_task


@dataclass(frozen=True)
class Trained:
    """Hold a trained network and what it scored at the end."""

    model: nn.Module
    score: Score
    history: tuple[dict[str, Any], ...]


def train(
    model: nn.Module,
    parts: Parts,
    settings: Settings,
    folder: Path,
    example: Tensor,
    progress: Progress = lambda done, total: None,
    teacher: nn.Module | None = None,
) -> Trained:
    """Train a network in place, going on from the folder's checkpoint where there is one.

    Raises TrainingError where the loss stops being finite, and KeyboardInterrupt, once a checkpoint is written,
    where SIGINT or SIGTERM asked for the end.
    """
    task = get_task(settings.task)
    with signals() as wish:
        begun = begin(model, parts, settings, folder, wish, progress)
        for stage in settings.plan:
            if begun.position.epoch < stage.end:
                with prepared(begun, stage, example, teacher) as run:
                    _train_stage(run, task)
        final = begun.measured
        score = task.score(final, parts, begun.device, None)
        if wish.stop:
            raise KeyboardInterrupt
    take_off_casts(model)
    return Trained(final.to(memory_format=torch.contiguous_format), score, tuple(begun.position.history))


def _train_stage(run: Run, task: Task) -> None:
    if not has_checkpoint(run.folder):
        _checkpoint(run)
    while run.position.epoch < run.stage.end:
        speed = _train_epoch(run)
        _close_epoch(run, task, speed)


def _train_epoch(run: Run) -> float | None:
    """Train what is left of the epoch; give the images per second."""
    position = run.position
    run.order.epoch, run.order.start = position.epoch, position.batch * run.settings.batch_size
    if position.batch >= run.batches:
        return None
    start_training(run.parties.model, run.frozen)
    since, seen = time.perf_counter(), position.images
    for images, targets in batches(run.loader):
        with run.accelerator.accumulate(run.wrapped):
            _step(run, images, targets)
        position.batch += 1
        run.progress(position.epoch * run.batches + position.batch, run.settings.plan[-1].end * run.batches)
        if run.accelerator.sync_gradients:
            _after_step(run)
    return (position.images - seen) / (time.perf_counter() - since)


def _step(run: Run, images: Tensor, targets: Tensor) -> None:
    """Take one batch forward and back, and step where enough are gathered."""
    optimizer, position = run.parties.optimizer, run.position
    factor = run.schedule(position.step - run.first_step)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    with _faults_said(run.settings):
        images, targets = run.objective.mixed(images, targets, position.batch + position.epoch * run.batches)
        images = images.contiguous(memory_format=layout(run.settings))
        loss = run.objective(run.forward(images), targets, images)
        _require_finite(run, loss, images)
        run.accelerator.backward(loss)
        if run.accelerator.sync_gradients:
            norm = run.accelerator.clip_grad_norm_(run.wrapped.parameters(), run.settings.clip_grad)
            if run.settings.amp != "fp16":  # fp16's scaler leaves such a step out
                _require_finite(run, norm, images)
        optimizer.step()
        optimizer.zero_grad()
    position.loss += float(loss.detach()) * len(images)
    position.images += len(images)


def _require_finite(run: Run, value: Tensor, images: Tensor) -> None:
    """Stop all processes where a loss or a gradient of one is not finite, and say what first was not."""
    (bad,) = processes.anywhere(not bool(value.isfinite()), device=run.accelerator.device)
    if not bad:
        return
    position, path = run.position, run.folder / NAME
    what = f"loss or gradients are not finite at step {position.step + 1} of epoch {position.epoch + 1}"
    culprit = first_bad(run.parties.model, images)
    said = f"first not finite: {culprit}; the last good checkpoint is {path}"
    raise TrainingError(f"{what}; {said}", str(run.folder), "lower --lr or --graft-lr-mult")


def _after_step(run: Run) -> None:
    """Follow the weights with their average, and write a checkpoint where one is due or the end was asked for."""
    position, every = run.position, run.settings.checkpoint_steps
    position.step += 1
    if run.parties.ema is not None:
        run.parties.ema.update(run.parties.model, step=position.step)
    _stop_if_asked(run)
    if every and position.step % every == 0:
        _checkpoint(run)


def _close_epoch(run: Run, task: Task, speed: float | None) -> None:
    """Measure, write the epoch's line, the artefacts and a checkpoint."""
    position, model = run.position, run.begun.measured
    score = task.score(model, run.begun.parts, run.accelerator.device, lambda done, total: _stop_if_asked(run))
    worth = score.metric if run.settings.best_by == "metric" else -score.loss
    losses, images = zip(*processes.gathered((position.loss, position.images)), strict=True)
    position.history.append(
        {
            "epoch": position.epoch + 1,
            "step": position.step,
            "train_loss": sum(losses) / max(1, sum(images)),
            "val_loss": score.loss,
            f"val_{task.metric}": score.metric,
            "images_per_second": speed and speed * len(images),
        }
    )
    if processes.is_first():
        write_epoch(run.folder, model, position.history, better=worth > position.best)
    position.best = max(position.best, worth)
    position.epoch, position.batch, position.loss, position.images = position.epoch + 1, 0, 0.0, 0
    _checkpoint(run)


def _checkpoint(run: Run) -> None:
    streams = processes.gathered(random_states())
    if processes.is_first():
        write_checkpoint(run.folder, run.parties, run.position, streams)


def _stop_if_asked(run: Run) -> None:
    if processes.anywhere(run.begun.wish.stop, device=run.accelerator.device)[0]:
        _checkpoint(run)
        raise KeyboardInterrupt


@contextmanager
def _faults_said(settings: Settings) -> Iterator[None]:
    """Say what helps where memory runs out, or where the network cannot be compiled."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = f"a smaller --batch-size than {settings.batch_size} with --accumulate"
        hint = f"{smaller}, --amp bf16, --grad-checkpointing, or --freeze base"
        raise TrainingError("out of memory", "the accelerator", hint) from error
    except TorchDynamoException as error:
        what = f"torch.compile failed: {first_line(error)}"
        raise TrainingError(what, "--compile", "leave --compile out") from error
