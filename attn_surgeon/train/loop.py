"""Train one network: Accelerate carries device and precision, the folder gets metrics, artefacts and checkpoints."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader

from attn_surgeon.artefact import save
from attn_surgeon.errors import first_line
from attn_surgeon.train.checkpoint import NAME, Parties, Position, read_checkpoint, write_checkpoint, write_file
from attn_surgeon.train.evaluate import Evaluation, Progress, batches
from attn_surgeon.train.groups import freeze, parameter_groups, start_training
from attn_surgeon.train.parts import Drawn, Order, Parts
from attn_surgeon.train.scoring import score
from attn_surgeon.train.settings import Settings, TrainingError, rate_factor
from attn_surgeon.train.stopping import Wish, first_bad, signals


@dataclass(frozen=True)
class Trained:
    """Hold a trained network, what it scored at the end, and which validation images it got right."""

    model: nn.Module
    evaluation: Evaluation
    correct: tuple[bool, ...]
    history: tuple[dict[str, Any], ...]


@dataclass(frozen=True)
class Run:
    """Hold what one run needs; `prepared` is the model as Accelerate runs it."""

    accelerator: Any
    prepared: nn.Module
    parties: Parties
    loader: Any
    order: Order
    parts: Parts
    settings: Settings
    folder: Path
    position: Position
    progress: Progress
    wish: Wish

    @property
    def batches(self) -> int:
        """Count the batches of an epoch."""
        count, size = self.order.count, self.settings.batch_size
        return max(1, count // size)

    @property
    def steps(self) -> int:
        """Count the optimizer's steps of the whole run."""
        return math.ceil(self.batches / self.settings.accumulate) * self.settings.epochs


def train(
    model: nn.Module,
    parts: Parts,
    settings: Settings,
    folder: Path,
    example: Tensor,
    progress: Progress = lambda done, total: None,
) -> Trained:
    """Train a network in place, going on from the folder's checkpoint where there is one.

    Raises TrainingError where the loss stops being finite, and KeyboardInterrupt, once a checkpoint is written,
    where SIGINT or SIGTERM asked for the end.
    """
    with signals() as wish:
        run = _prepare(model, parts, settings, folder, example, progress, wish)
        while run.position.epoch < settings.epochs:
            speed = _train_epoch(run)
            _close_epoch(run, speed)
        final = _scored(run)
        evaluation, correct = score(final, parts, device=run.accelerator.device)
        run.accelerator.free_memory()
        final.to(memory_format=torch.contiguous_format)
        if wish.stop:
            raise KeyboardInterrupt
    for name in ("forward", "_original_forward"):  # Accelerate's, under mixed precision
        vars(model).pop(name, None)
    return Trained(final, evaluation, correct, tuple(run.position.history))


def _prepare(
    model: nn.Module,
    parts: Parts,
    settings: Settings,
    folder: Path,
    example: Tensor,
    progress: Progress,
    wish: Wish,
) -> Run:
    from accelerate.utils import set_seed

    accelerator = _accelerator(settings)
    freeze(model, settings, example)
    model.to(memory_format=_layout(settings))
    optimizer = _optimizer(model, settings)
    ema = copy.deepcopy(model).to(accelerator.device) if settings.ema else None
    order, loader = _loader(parts, settings)
    prepared, wrapped, batches = accelerator.prepare(model, optimizer, loader)
    parties = Parties(model, wrapped, ema, accelerator.scaler)
    set_seed(settings.seed)
    known = (folder / NAME).exists()
    position = read_checkpoint(folder, parties) if known else Position()
    run = Run(accelerator, prepared, parties, batches, order, parts, settings, folder, position, progress, wish)
    if not known:
        _checkpoint(run)
    return run


def _accelerator(settings: Settings) -> Any:
    from accelerate import Accelerator, DataLoaderConfiguration

    try:
        return Accelerator(
            mixed_precision=settings.amp,
            gradient_accumulation_steps=settings.accumulate,
            # the batch is the one of all processes together, so that their number does not change the training
            dataloader_config=DataLoaderConfiguration(split_batches=True),
        )
    except (ValueError, RuntimeError, ImportError) as error:
        raise TrainingError(first_line(error), f"--amp {settings.amp}", "leave --amp out") from error


def _optimizer(model: nn.Module, settings: Settings) -> torch.optim.Optimizer:
    groups = parameter_groups(model, settings)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=settings.lr)


def _loader(parts: Parts, settings: Settings) -> tuple[Order, DataLoader[Any]]:
    """Make the loader of training batches; a last one that is not full is left out, for BatchNorm's sake."""
    data = Drawn(parts.train, settings.seed, parts.augment)
    order = Order(len(data), settings.seed)
    batches = BatchSampler(cast(Any, order), settings.batch_size, drop_last=len(data) >= settings.batch_size)
    # a loader draws a seed for its workers: from its own generator, or a resumed run would draw once more
    return order, DataLoader(data, batch_sampler=batches, num_workers=settings.workers, generator=torch.Generator())


def _layout(settings: Settings) -> torch.memory_format:
    return torch.channels_last if settings.channels_last else torch.contiguous_format


def _train_epoch(run: Run) -> float | None:
    """Train what is left of the epoch; give the images per second."""
    position = run.position
    run.order.epoch, run.order.start = position.epoch, position.batch * run.settings.batch_size
    if position.batch >= run.batches:
        return None
    start_training(run.parties.model, run.settings)
    since, seen = time.perf_counter(), position.images
    for images, labels in batches(run.loader):
        with run.accelerator.accumulate(run.prepared):
            _step(run, images, labels)
        position.batch += 1
        run.progress(position.epoch * run.batches + position.batch, run.settings.epochs * run.batches)
        if run.accelerator.sync_gradients:
            _after_step(run)
    return (position.images - seen) / (time.perf_counter() - since)


def _step(run: Run, images: Tensor, labels: Tensor) -> None:
    """Take one batch forward and back, and step where enough are gathered."""
    optimizer = run.parties.optimizer
    factor = rate_factor(run.position.step, run.steps, run.settings.warmup)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor
    with _memory_said(run.settings):
        logits = run.prepared(images.contiguous(memory_format=_layout(run.settings)))
        loss = F.cross_entropy(logits, labels, label_smoothing=run.settings.label_smoothing)
        if not bool(loss.isfinite()):
            raise _not_finite(run, images)
        run.accelerator.backward(loss)
        if run.accelerator.sync_gradients:
            norm = run.accelerator.clip_grad_norm_(run.prepared.parameters(), run.settings.clip_grad)
            if run.settings.amp != "fp16" and not bool(norm.isfinite()):  # fp16's scaler leaves such a step out
                raise _not_finite(run, images)
        optimizer.step()
        optimizer.zero_grad()
    run.position.loss += float(loss.detach()) * len(labels)
    run.position.images += len(labels)


def _after_step(run: Run) -> None:
    """Follow the weights with their average, and write a checkpoint where one is due or the end was asked for."""
    position, every = run.position, run.settings.checkpoint_steps
    position.step += 1
    if run.parties.ema is not None:
        _follow(run.parties.ema, run.parties.model, run.settings.ema)
    if run.wish.stop:
        _stop(run)
    if every and position.step % every == 0:
        _checkpoint(run)


@torch.no_grad()
def _follow(ema: nn.Module, model: nn.Module, decay: float) -> None:
    for own, new in zip(ema.state_dict().values(), model.state_dict().values(), strict=True):
        if own.is_floating_point():
            own.lerp_(new, 1 - decay)
        else:
            own.copy_(new)


def _close_epoch(run: Run, speed: float | None) -> None:
    """Measure, write the epoch's line, the artefacts and a checkpoint."""
    position, model = run.position, _scored(run)

    def watch(done: int, total: int) -> None:
        if run.wish.stop:
            _stop(run)

    evaluation, _ = score(model, run.parts, device=run.accelerator.device, progress=watch)
    position.history.append(
        {
            "epoch": position.epoch + 1,
            "step": position.step,
            "train_loss": position.loss / max(1, position.images),
            "val_loss": evaluation.loss,
            "val_top1": evaluation.top1,
            "images_per_second": speed,
        }
    )
    if run.accelerator.is_main_process:
        _write_epoch(run, model, better=evaluation.top1 > position.best)
    position.best = max(position.best, evaluation.top1)
    position.epoch, position.batch, position.loss, position.images = position.epoch + 1, 0, 0.0, 0
    _checkpoint(run)


def _write_epoch(run: Run, model: nn.Module, *, better: bool) -> None:
    save(model, run.folder / "last.safetensors")
    if better:
        save(model, run.folder / "best.safetensors")
    lines = "".join(f"{json.dumps(line)}\n" for line in run.position.history)
    write_file(run.folder / "metrics.jsonl", lambda path: Path(path).write_text(lines))


def _scored(run: Run) -> nn.Module:
    """Give the network that is measured and saved: the average where there is one."""
    return run.parties.model if run.parties.ema is None else run.parties.ema


def _checkpoint(run: Run) -> None:
    if run.accelerator.is_main_process:
        write_checkpoint(run.folder, run.parties, run.position)


def _stop(run: Run) -> None:
    _checkpoint(run)
    raise KeyboardInterrupt


def _not_finite(run: Run, images: Tensor) -> TrainingError:
    position, path = run.position, run.folder / NAME
    what = f"loss or gradients are not finite at step {position.step + 1} of epoch {position.epoch + 1}"
    culprit = first_bad(run.parties.model, images)
    said = f"first not finite: {culprit}; the last good checkpoint is {path}"
    return TrainingError(f"{what}; {said}", str(run.folder), "lower --lr or --graft-lr-mult")


@contextmanager
def _memory_said(settings: Settings) -> Iterator[None]:
    """Say what helps where memory runs out."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        hint = f"a smaller --batch-size than {settings.batch_size} with --accumulate, or --amp bf16"
        raise TrainingError("out of memory", "the accelerator", hint) from error
