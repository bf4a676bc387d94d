"""The learning rate of each step, as timm's schedulers give it."""

from __future__ import annotations

from typing import Any

import torch

from attn_surgeon.finetune.settings import Settings


class Schedule:
    """Give what the rates of a step are multiplied by: a linear warm-up, then a descent over the steps that are left.

    It has no state: a resumed run asks for the step it is at.
    """

    def __init__(self, settings: Settings, steps: int) -> None:
        rising = round(settings.warmup * steps)
        self._group = torch.optim.SGD([torch.zeros(1)], lr=1.0)
        self._scheduler = _scheduler(self._group, settings.schedule, steps - rising, rising)

    def __call__(self, step: int) -> float:
        """Give the factor for a step, counted from 0."""
        self._scheduler.step_update(step)
        return float(self._group.param_groups[0]["lr"])


def _scheduler(group: Any, name: str, falling: int, rising: int) -> Any:
    from timm.scheduler import create_scheduler_v2

    falling = max(2, falling)  # of one step nothing can be scheduled
    return create_scheduler_v2(
        group,
        name,
        num_epochs=falling,
        decay_epochs=max(1, falling // 3 if name == "step" else falling // 5),
        decay_rate=0.1 if name == "step" else 1.0,  # for poly it is the power
        warmup_epochs=rising,
        warmup_lr=1 / (rising + 1),
        warmup_prefix=True,
        step_on_epochs=False,
        updates_per_epoch=1,
    )[0]
