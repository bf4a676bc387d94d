"""Train a network for a number of steps, as `finetune` does with a fixed plan, without validation or files."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

from torch import nn

from attn_surgeon.finetune.clipping import clip_gradients
from attn_surgeon.finetune.parameter_groups import make_optimizer
from attn_surgeon.finetune.schedule import Schedule
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.scouting.batches import Batch
from attn_surgeon.tasks.base import Task


def take_steps(
    model: nn.Module,
    task: Task,
    settings: FinetuneSettings,
    batches: Iterable[Batch],
    steps: int,
    progress: Progress = no_progress,
) -> None:
    """Train what has gradients, in place and in the mode that the network is in.

    Args:
        model: the network.
        task: the task.
        settings: the optimizer, rates, schedule and clipping.
        batches: at least as many batches as steps.
        steps: the steps, over which the schedule goes.
        progress: is called with the steps done and their total.
    """
    optimizer, schedule = make_optimizer(model, settings), Schedule(settings, steps)
    for step, (images, targets) in enumerate(islice(batches, steps)):
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * schedule(step)
        task.batch_loss(model, images, targets, settings)[0].backward()  # type: ignore[no-untyped-call]
        clip_gradients(optimizer, settings.clip_grad)
        optimizer.step()
        optimizer.zero_grad()
        progress(step + 1, steps)
