"""What a run needs before its first step: Accelerate's wrapping, optimizer, data, and where an earlier run stopped."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader

from attn_surgeon.data import processes
from attn_surgeon.data.parts import Drawn, Order, Parts
from attn_surgeon.errors import first_line
from attn_surgeon.finetune.checkpoint import Parties, Position, has_checkpoint, read_checkpoint
from attn_surgeon.finetune.freezing import freeze
from attn_surgeon.finetune.gradient_checkpointing import checkpointed
from attn_surgeon.finetune.objective import Objective
from attn_surgeon.finetune.parameter_groups import make_optimizer
from attn_surgeon.finetune.precision import take_off_casts
from attn_surgeon.finetune.rate import Schedule
from attn_surgeon.finetune.schedule import Stage
from attn_surgeon.finetune.settings import Settings, TrainingError
from attn_surgeon.finetune.stopping import Wish
from attn_surgeon.progress import Progress
from attn_surgeon.tasks.base import get_task


@dataclass(frozen=True)
class Begun:
    """Hold what stays the same over all stages of a run."""

    model: nn.Module
    ema: Any
    parts: Parts
    settings: Settings
    folder: Path
    position: Position
    wish: Wish
    progress: Progress
    device: torch.device

    @property
    def measured(self) -> nn.Module:
        """Give the network that is measured and saved: the average where there is one."""
        return self.model if self.ema is None else cast(nn.Module, self.ema.module)


@dataclass(frozen=True)
class Run:
    """Hold what the steps of a stage need; `wrapped` is the network as Accelerate has it, `forward` what is called."""

    begun: Begun
    stage: Stage
    accelerator: Any
    wrapped: nn.Module
    forward: Callable[[Tensor], Any]
    frozen: tuple[nn.Module, ...]
    parties: Parties
    loader: Any
    order: Order
    objective: Objective
    schedule: Schedule

    @property
    def settings(self) -> Settings:
        """Give the settings."""
        return self.begun.settings

    @property
    def position(self) -> Position:
        """Say where the run stands."""
        return self.begun.position

    @property
    def folder(self) -> Path:
        """Name the run's folder."""
        return self.begun.folder

    @property
    def progress(self) -> Progress:
        """Give what is told of each batch."""
        return self.begun.progress

    @property
    def batches(self) -> int:
        """Count the batches of an epoch."""
        return _batches(self.order.count, self.settings)

    @property
    def first_step(self) -> int:
        """Number the stage's first step."""
        return self.stage.start * _steps(self.order.count, self.settings)


def begin(model: nn.Module, parts: Parts, settings: Settings, folder: Path, wish: Wish, progress: Progress) -> Begun:
    """Lay out the network, make its average, and find out where an earlier run stopped."""
    from accelerate.utils import set_seed
    from timm.utils import ModelEmaV3

    device = _accelerator(settings).device
    model.to(device).to(memory_format=layout(settings))
    # a short run would end with the average still at its start, so the decay begins at none
    ema = ModelEmaV3(model, decay=settings.ema, use_warmup=True) if settings.ema else None
    set_seed(settings.seed)
    position = (
        read_checkpoint(folder, Parties(model, None, ema), processes.index()) if has_checkpoint(folder) else Position()
    )
    return Begun(model, ema, parts, settings, folder, position, wish, progress, device)


@contextmanager
def prepared(begun: Begun, stage: Stage, example: Tensor, teacher: nn.Module | None) -> Iterator[Run]:
    """Make what a stage's steps need, and bring it to where the folder's checkpoint stands."""
    settings = replace(begun.settings, freeze=stage.freeze, stages=None)
    with ExitStack() as stack:
        frozen = freeze(begun.model, settings, example.to(begun.device))
        if settings.grad_checkpointing:
            stack.enter_context(checkpointed(begun.model))
        run = _run(begun, stage, settings, frozen, teacher)
        _go_on(run)
        yield run
        run.accelerator.free_memory()
        take_off_casts(begun.model)


def _run(
    begun: Begun, stage: Stage, settings: Settings, frozen: tuple[nn.Module, ...], teacher: nn.Module | None
) -> Run:
    accelerator = _accelerator(settings)
    order, loader = _loader(begun.parts, settings)
    wrapped, optimizer, batches = accelerator.prepare(begun.model, make_optimizer(begun.model, settings), loader)
    steps = _steps(order.count, settings) * (stage.end - stage.start)
    objective = Objective(get_task(settings.task), settings, len(begun.parts.train.class_names), _still(teacher, begun))
    return Run(
        begun,
        stage,
        accelerator,
        wrapped,
        torch.compile(wrapped) if settings.compile else wrapped,
        frozen,
        Parties(begun.model, optimizer, begun.ema, accelerator.scaler),
        batches,
        order,
        objective,
        Schedule(settings, steps),
    )


def _go_on(run: Run) -> None:
    """Read the checkpoint, but not the optimizer of the stage before."""
    fresh = run.position.epoch == run.stage.start and run.position.batch == 0
    if has_checkpoint(run.folder) and not fresh:
        read_checkpoint(run.folder, run.parties, processes.index())


def _still(teacher: nn.Module | None, begun: Begun) -> nn.Module | None:
    """Put a teacher beside the network, in eval mode."""
    if teacher is None:
        return None
    teacher.to(begun.device).to(memory_format=layout(begun.settings))
    return teacher.eval().requires_grad_(False)


def layout(settings: Settings) -> torch.memory_format:
    """Name how maps lie in memory."""
    return torch.channels_last if settings.channels_last else torch.contiguous_format


def _batches(images: int, settings: Settings) -> int:
    return max(1, images // settings.batch_size)


def _steps(images: int, settings: Settings) -> int:
    """Count the optimizer's steps of an epoch."""
    return math.ceil(_batches(images, settings) / settings.accumulate)


def require_possible(model: nn.Module, settings: Settings, example: Tensor) -> None:
    """Refuse what this machine cannot train in, and what cannot be frozen of this network."""
    _accelerator(settings)
    for stage in settings.plan:
        freeze(model, replace(settings, freeze=stage.freeze, stages=None), example)
    model.requires_grad_(True)


def _accelerator(settings: Settings) -> Any:
    from accelerate import Accelerator, DataLoaderConfiguration, PartialState

    if settings.batch_size % processes.count():
        what = f"a batch of {settings.batch_size} cannot be split over {processes.count()} processes"
        raise TrainingError(what, "--batch-size", "it counts the images of all processes together")
    processes.join()
    if settings.amp == "fp16" and PartialState().device.type == "cpu":  # Accelerate would leave it out in silence
        raise TrainingError("half precision is for GPUs", "--amp fp16", "say --amp bf16, or leave --amp out")
    try:
        return Accelerator(
            mixed_precision=settings.amp,
            gradient_accumulation_steps=settings.accumulate,
            # the batch is the one of all processes together, so that their number does not change the training
            dataloader_config=DataLoaderConfiguration(split_batches=True),
        )
    except (ValueError, RuntimeError, ImportError) as error:
        raise TrainingError(first_line(error), f"--amp {settings.amp}", "leave --amp out") from error


def _loader(parts: Parts, settings: Settings) -> tuple[Order, DataLoader[Any]]:
    """Make the loader of training batches; a last one that is not full is left out, for BatchNorm's sake."""
    data = Drawn(parts, settings.seed)
    order = Order(len(data), settings.seed)
    batches = BatchSampler(cast(Any, order), settings.batch_size, drop_last=len(data) >= settings.batch_size)
    # a loader draws a seed for its workers: from its own generator, or a resumed run would draw once more
    return order, DataLoader(data, batch_sampler=batches, num_workers=settings.workers, generator=torch.Generator())
