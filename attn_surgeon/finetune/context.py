"""Set up training: the model wrapped by Accelerate, the optimizer, the data loader and the state of a checkpoint."""

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

from attn_surgeon.data import distributed
from attn_surgeon.data.sampling import EpochImages, EpochSampler
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import TrainingError, first_line, option
from attn_surgeon.finetune.checkpoint import RunState, has_checkpoint, read_checkpoint
from attn_surgeon.finetune.freezing import freeze
from attn_surgeon.finetune.gradient_checkpointing import checkpointed
from attn_surgeon.finetune.objective import Objective
from attn_surgeon.finetune.parameter_groups import make_optimizer
from attn_surgeon.finetune.precision import remove_autocast, without_autocast
from attn_surgeon.finetune.schedule import Schedule
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.finetune.stages import Stage
from attn_surgeon.finetune.stopping import StopRequest
from attn_surgeon.progress import Progress
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.base import Score, ScoreOptions, Task


@dataclass(frozen=True)
class RunContext:
    """The objects that all stages of a run share; `ema` is the exponential moving average of the weights, or None."""

    model: nn.Module
    ema: Any
    splits: Splits
    settings: FinetuneSettings
    task: Task
    folder: Path
    state: RunState
    stop: StopRequest
    progress: Progress
    evaluation: Progress
    device: torch.device

    @property
    def evaluated(self) -> nn.Module:
        """The network that is evaluated and saved: the one with averaged weights if there is one."""
        return self.model if self.ema is None else cast(nn.Module, self.ema.module)

    def score(self, progress: Progress) -> Score:
        """Score the network on the validation images, in full precision as its artefact will run."""
        with without_autocast(self.evaluated):
            return self.task.score(self.evaluated, self.splits.val, ScoreOptions(device=self.device), progress)


@dataclass(frozen=True)
class StageContext:
    """The objects that the steps of one stage use.

    `wrapped` is the network wrapped by Accelerate; `forward` is the same, compiled if the settings request it.
    """

    run: RunContext
    stage: Stage
    accelerator: Any
    wrapped: nn.Module
    forward: Callable[[Tensor], Any]
    frozen_norms: tuple[nn.Module, ...]
    optimizer: Any
    loader: Any
    sampler: EpochSampler
    objective: Objective
    schedule: Schedule

    @property
    def stateful(self) -> dict[str, Any]:
        """The objects whose state a checkpoint stores."""
        run, scaler = self.run, self.accelerator.scaler
        return {"model": run.model, "optimizer": self.optimizer, "ema": run.ema, "scaler": scaler}

    @property
    def batches(self) -> int:
        """The number of batches of an epoch."""
        return _batches(self.sampler.count, self.run.settings)

    @property
    def first_step(self) -> int:
        """The number of optimizer steps before this stage."""
        return self.stage.start * _steps(self.sampler.count, self.run.settings)


def begin(
    model: nn.Module,
    splits: Splits,
    settings: FinetuneSettings,
    folder: Path,
    stop: StopRequest,
    progress: Progress,
    evaluation: Progress,
) -> RunContext:
    """Return the context of a run, resumed from the folder's checkpoint if there is one."""
    from accelerate.utils import set_seed
    from timm.utils import ModelEmaV3

    device = distributed.device()
    model.to(device).to(memory_format=memory_format(settings))
    # without warm-up of the decay, the average of a short run would stay close to the initial weights
    ema = ModelEmaV3(model, decay=settings.ema, use_warmup=True) if settings.ema else None
    set_seed(settings.seed)
    state = RunState()
    if has_checkpoint(folder):
        state = read_checkpoint(folder, {"model": model, "ema": ema}, distributed.rank())
    task = get_task(settings.task)
    if any(line.get(f"val_{task.metric.key}") is None for line in state.history):
        raise TrainingError(f"the checkpoint has no {task.metric.title}", str(folder), "start a new run")
    return RunContext(model, ema, splits, settings, task, folder, state, stop, progress, evaluation, device)


@contextmanager
def prepared(run: RunContext, stage: Stage, example: Tensor, teacher: nn.Module | None) -> Iterator[StageContext]:
    """Yield the context of a stage, resumed from the folder's checkpoint if that is within the stage."""
    settings = replace(run.settings, freeze=stage.freeze, stages=None)
    with ExitStack() as stack:
        frozen_norms = freeze(run.model, settings, example.to(run.device))
        if settings.grad_checkpointing:
            stack.enter_context(checkpointed(run.model))
        context = _stage_context(run, stage, settings, frozen_norms, teacher)
        fresh = run.state.epoch == stage.start and run.state.batch == 0
        if has_checkpoint(run.folder) and not fresh:  # a new stage starts with a new optimizer
            read_checkpoint(run.folder, context.stateful, distributed.rank())
        yield context
        context.accelerator.free_memory()
        remove_autocast(run.model)


def _stage_context(
    run: RunContext,
    stage: Stage,
    settings: FinetuneSettings,
    frozen_norms: tuple[nn.Module, ...],
    teacher: nn.Module | None,
) -> StageContext:
    accelerator = make_accelerator(settings)
    sampler, loader = _loader(run.splits, settings)
    wrapped, optimizer, batches = accelerator.prepare(run.model, make_optimizer(run.model, settings), loader)
    if teacher is not None:
        teacher.to(run.device).to(memory_format=memory_format(settings)).eval().requires_grad_(False)
    steps = _steps(sampler.count, settings) * (stage.end - stage.start)
    return StageContext(
        run,
        stage,
        accelerator,
        wrapped,
        torch.compile(wrapped) if settings.compile else wrapped,
        frozen_norms,
        optimizer,
        batches,
        sampler,
        Objective(run.task, settings, len(run.splits.train.class_names), teacher),
        Schedule(settings, steps),
    )


def _batches(images: int, settings: FinetuneSettings) -> int:
    return max(1, images // settings.batch_size)


def _steps(images: int, settings: FinetuneSettings) -> int:
    """Return the number of optimizer steps of an epoch."""
    return math.ceil(_batches(images, settings) / settings.accumulate)


def memory_format(settings: FinetuneSettings) -> torch.memory_format:
    """Return the memory format of images and weights."""
    return torch.channels_last if settings.channels_last else torch.contiguous_format


def require_possible(model: nn.Module, settings: FinetuneSettings, example: Tensor) -> None:
    """Raise TrainingError if this machine or this network does not support the settings."""
    make_accelerator(settings)
    for stage in settings.plan:
        freeze(model, replace(settings, freeze=stage.freeze, stages=None), example)
    model.requires_grad_(True)


def make_accelerator(settings: FinetuneSettings) -> Any:
    """Return Accelerate's Accelerator; raise TrainingError if it does not support the settings."""
    from accelerate import Accelerator, DataLoaderConfiguration

    if settings.batch_size % distributed.world_size():
        what = f"a batch of {settings.batch_size} cannot be split over {distributed.world_size()} processes"
        raise TrainingError(what, option("batch_size"), "it is the number of images of all processes together")
    device = distributed.device()
    if settings.amp == "fp16" and device.type == "cpu":  # Accelerate would silently ignore it
        hint = f"use {option('amp', 'bf16')}, or leave {option('amp')} out"
        raise TrainingError("half precision needs a GPU", option("amp", "fp16"), hint)
    try:
        return Accelerator(
            mixed_precision=settings.amp,
            gradient_accumulation_steps=settings.accumulate,
            # split batches over the processes, so that their number does not change the training
            dataloader_config=DataLoaderConfiguration(split_batches=True),
        )
    except (ValueError, RuntimeError, ImportError) as error:
        raise TrainingError(first_line(error), option("amp", settings.amp), f"leave {option('amp')} out") from error


def _loader(splits: Splits, settings: FinetuneSettings) -> tuple[EpochSampler, DataLoader[Any]]:
    """Return the sampler and loader of training batches; a smaller last batch is dropped, for BatchNorm's sake."""
    data = EpochImages(splits, settings.seed)
    sampler = EpochSampler(len(data), settings.seed)
    batches = BatchSampler(cast(Any, sampler), settings.batch_size, drop_last=len(data) >= settings.batch_size)
    # the loader draws a seed for its workers; from the global generator, a resumed run would draw it once more
    generator = torch.Generator()
    return sampler, DataLoader(
        data,
        batch_sampler=batches,
        num_workers=settings.workers,
        collate_fn=splits.collate,
        generator=generator,
    )
