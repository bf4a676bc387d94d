"""Compute the learning rate factor of each step with timm's schedulers."""

from __future__ import annotations

from typing import Any

import torch

from attn_surgeon.finetune.settings import FinetuneSettings


class Schedule:
    """The factor of the learning rates at each step: a linear warm-up, then the schedule over the remaining steps.

    The factor depends on the step alone, so a resumed run needs no saved state.
    """

    def __init__(self, settings: FinetuneSettings, steps: int) -> None:
        warmup = round(settings.warmup * steps)
        self._group = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._scheduler = _scheduler(self._group, settings.schedule, steps - warmup, warmup)

    def __call__(self, step: int) -> float:
        """Return the factor for a step, counted from 0."""
        self._scheduler.step_update(step)
        return float(self._group.param_groups[0]["lr"])


def _scheduler(group: Any, name: str, steps: int, warmup: int) -> Any:
    from timm.scheduler import create_scheduler_v2

    steps = max(2, steps)  # timm cannot schedule a single step
    return create_scheduler_v2(
        group,
        name,
        num_epochs=steps,
        decay_epochs=max(1, steps // 3 if name == "step" else steps // 5),
        decay_rate=0.1 if name == "step" else 1.0,  # for poly it is the power
        warmup_epochs=warmup,
        warmup_lr=1 / (warmup + 1),
        warmup_prefix=True,
        step_on_epochs=False,
        updates_per_epoch=1,
    )[0]
