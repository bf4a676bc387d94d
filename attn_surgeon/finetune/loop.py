"""Train one network; after each epoch, evaluate it and write metrics, artefacts and a checkpoint."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.data import distributed
from attn_surgeon.data.sampling import batches
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import TrainingError, first_line, option
from attn_surgeon.finetune.checkpoint import CHECKPOINT, generator_states, has_checkpoint, write_checkpoint
from attn_surgeon.finetune.clipping import clip_gradients
from attn_surgeon.finetune.context import StageContext, begin, memory_format, prepared
from attn_surgeon.finetune.freezing import train_mode
from attn_surgeon.finetune.precision import remove_autocast
from attn_surgeon.finetune.record import write_epoch
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.finetune.stopping import first_not_finite, stop_on_signals
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.tasks.base import Score


@dataclass(frozen=True)
class Trained:
    """A trained network, its final score, and the metrics of each epoch."""

    model: nn.Module
    score: Score
    history: tuple[dict[str, Any], ...]


def train(
    model: nn.Module,
    splits: Splits,
    settings: FinetuneSettings,
    folder: Path,
    example: Tensor,
    progress: Progress = no_progress,
    teacher: nn.Module | None = None,
    evaluation: Progress = no_progress,
) -> Trained:
    """Train a network in place, resuming from the folder's checkpoint if there is one.

    Args:
        model: the network.
        splits: training and validation images.
        settings: how it is trained.
        folder: the run folder.
        example: an input (1, C, H, W).
        progress: is called with the batches done and their total.
        teacher: the network to distil from, if `settings.distill` is set.
        evaluation: is called with the validation images done and their total, each time that they are scored.

    Raises:
        TrainingError: if the loss or a gradient is not finite.
        KeyboardInterrupt: after SIGINT or SIGTERM, once a checkpoint is written.
    """
    with stop_on_signals() as stop:
        run = begin(model, splits, settings, folder, stop, progress, evaluation)
        for stage in settings.plan:
            if run.state.epoch < stage.end:
                with prepared(run, stage, example, teacher) as context:
                    _train_stage(context)
        score = run.score(run.evaluation)
        if stop.requested:
            raise KeyboardInterrupt
    remove_autocast(model)
    final = run.evaluated.to(memory_format=torch.contiguous_format)
    return Trained(final, score, tuple(run.state.history))


def _train_stage(context: StageContext) -> None:
    if not has_checkpoint(context.run.folder):
        _checkpoint(context)
    while context.run.state.epoch < context.stage.end:
        _finish_epoch(context, _train_epoch(context))


def _train_epoch(context: StageContext) -> float | None:
    """Train the rest of the epoch; return images per second, or None if no batch was left."""
    run, state = context.run, context.run.state
    context.sampler.epoch, context.sampler.start = state.epoch, state.batch * run.settings.batch_size
    if state.batch >= context.batches:
        return None
    train_mode(run.model, context.frozen_norms)
    since, before = time.perf_counter(), state.images
    for images, targets in batches(context.loader):
        with context.accelerator.accumulate(context.wrapped):
            _step(context, images, targets)
        state.batch += 1
        done, total = state.epoch * context.batches + state.batch, run.settings.plan[-1].end * context.batches
        run.progress(done, total)
        if context.accelerator.sync_gradients:
            _after_step(context)
    return (state.images - before) / (time.perf_counter() - since)


def _step(context: StageContext, images: Any, targets: Any) -> None:
    """Run one batch forward and backward, and step the optimizer once gradient accumulation is complete."""
    settings, state, optimizer = context.run.settings, context.run.state, context.optimizer
    factor = context.schedule(state.step - context.first_step)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    with _hints(settings):
        images, targets = context.objective.mixed(images, targets, state.batch + state.epoch * context.batches)
        if isinstance(images, Tensor):
            images = images.contiguous(memory_format=memory_format(settings))
        loss = context.objective(context.forward, images, targets)
        _require_finite(context, loss, (images, targets))
        context.accelerator.backward(loss)
        if context.accelerator.sync_gradients:
            context.accelerator.unscale_gradients()
            norm = clip_gradients(optimizer, settings.clip_grad)
            if settings.amp != "fp16":  # the gradient scaler of fp16 skips such a step
                _require_finite(context, norm, (images, targets))
        update(optimizer)
    state.loss += float(loss.detach()) * len(images)
    state.images += len(images)


def update(optimizer: Any) -> None:
    """Run the optimizer; raise TrainingError if the state from a checkpoint does not fit."""
    try:
        optimizer.step()
    except torch.OutOfMemoryError:
        raise
    except (ArithmeticError, AssertionError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        what = f"the optimizer cannot make a step: {first_line(error)}"
        raise TrainingError(what, option("optimizer"), "start a new run") from error
    optimizer.zero_grad()


def _require_finite(context: StageContext, value: Tensor, batch: tuple[Any, Any]) -> None:
    """Stop all processes if a loss or gradient norm is not finite in one; the error names the first such module."""
    (bad,) = distributed.any_process(not bool(value.isfinite()), device=context.accelerator.device)
    if not bad:
        return
    run = context.run
    what = (
        f"training diverged at step {run.state.step + 1} of epoch {run.state.epoch + 1}: loss or gradients not finite"
    )
    culprit = first_not_finite(run.model, lambda: context.objective(run.model, *batch))
    detail = f"first not finite: {culprit}; the last good checkpoint is {run.folder / CHECKPOINT}"
    raise TrainingError(f"{what}; {detail}", str(run.folder), f"lower {option('lr')} or {option('graft_lr_mult')}")


def _require_finite_weights(context: StageContext) -> None:
    """Raise TrainingError if the last step of an epoch, after which no loss is computed, made weights not finite."""
    run = context.run
    trained = ((name, weight) for name, weight in run.model.named_parameters() if weight.requires_grad)
    first = next((name for name, weight in trained if not bool(weight.isfinite().all())), "")
    if distributed.any_process(bool(first), device=context.accelerator.device)[0]:
        what = f"training diverged in epoch {run.state.epoch + 1}: weights not finite, first {first}"
        raise TrainingError(what, str(run.folder), f"lower {option('lr')} or {option('graft_lr_mult')}")


def _after_step(context: StageContext) -> None:
    """Update the average of the weights, and write a checkpoint if one is due or a stop was requested."""
    run, every = context.run, context.run.settings.checkpoint_steps
    run.state.step += 1
    if run.ema is not None:
        run.ema.update(run.model, step=run.state.step)
    _stop_if_requested(context)
    if every and run.state.step % every == 0:
        _checkpoint(context)


def _finish_epoch(context: StageContext, speed: float | None) -> None:
    """Evaluate, and write the epoch's metrics, the artefacts and a checkpoint."""
    run, state = context.run, context.run.state
    _require_finite_weights(context)

    def evaluated(done: int, total: int) -> None:
        run.evaluation(done, total)
        _stop_if_requested(context)

    score = run.score(evaluated)
    value = score.metric if run.settings.best_by == "metric" else -score.loss
    losses, images = zip(*distributed.gather_objects((state.loss, state.images)), strict=True)
    state.history.append(
        {
            "epoch": state.epoch + 1,
            "step": state.step,
            "train_loss": sum(losses) / max(1, sum(images)),
            "val_loss": score.loss,
            f"val_{run.task.metric.key}": score.metric,
            "images_per_second": speed and speed * len(images),
        }
    )
    if distributed.is_first():
        write_epoch(run.folder, run.evaluated, state.history, better=value > state.best)
    state.best = max(state.best, value)
    state.epoch, state.batch, state.loss, state.images = state.epoch + 1, 0, 0.0, 0
    _checkpoint(context)


def _checkpoint(context: StageContext) -> None:
    generators = distributed.gather_objects(generator_states())
    if distributed.is_first():
        write_checkpoint(context.run.folder, context.stateful, context.run.state, generators)


def _stop_if_requested(context: StageContext) -> None:
    if distributed.any_process(context.run.stop.requested, device=context.accelerator.device)[0]:
        _checkpoint(context)
        raise KeyboardInterrupt


@contextmanager
def _hints(settings: FinetuneSettings) -> Iterator[None]:
    """Turn out-of-memory and compilation errors into errors with a hint."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except torch.OutOfMemoryError as error:
        smaller = f"a smaller {option('batch_size')} than {settings.batch_size} with {option('accumulate')}"
        others = f"{option('amp', 'bf16')}, {option('grad_checkpointing', True)}, or {option('freeze', 'base')}"
        raise TrainingError("out of memory", "the accelerator", f"{smaller}, {others}") from error
    except TorchDynamoException as error:
        what = f"torch.compile failed: {first_line(error)}"
        raise TrainingError(what, option("compile"), f"leave {option('compile')} out") from error
