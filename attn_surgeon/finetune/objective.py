"""Compute the training loss: the task's loss, with Mixup or CutMix, and distillation from a teacher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_surgeon.errors import TrainingError, option
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.tasks.base import Task


@dataclass(frozen=True)
class Objective:
    """The loss of a batch; the teacher is the original network before any training."""

    task: Task
    settings: FinetuneSettings
    classes: int
    teacher: nn.Module | None = None

    def mixed(self, images: Any, targets: Any, step: int) -> tuple[Any, Any]:
        """Mix the images of a batch in pairs, drawn from the seed and the step alone (Zhang et al., 2017; Yun, 2019).

        Returns images (N, C, H, W) and mixed targets (N, K); without Mixup and CutMix the arguments unchanged.
        """
        settings = self.settings
        if not settings.mixup and not settings.cutmix:
            return images, targets
        from timm.data import Mixup

        mix = Mixup(
            settings.mixup,
            settings.cutmix,
            label_smoothing=settings.label_smoothing,
            num_classes=self.classes,
        )
        even = len(images) - len(images) % 2  # images are mixed in pairs
        with _numpy_seeded(hash((settings.seed, step))):
            mixed, mixed_targets = mix(images[:even].clone(), targets[:even])
        return mixed, mixed_targets

    def __call__(self, forward: Callable[[Any], Any], images: Any, targets: Any) -> Tensor:
        """Return the loss (scalar) of a batch."""
        loss, output = self.task.batch_loss(forward, images, targets, self.settings)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            target = self.task.logits(self.teacher(images))
        distance = distillation_loss(self.task.logits(output), target, self.settings.temperature)
        return (1 - self.settings.distill) * loss + self.settings.distill * distance


def distillation_loss(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """Return T² times the KL divergence of softened logits (N, K, ...) from a teacher's (Hinton et al., 2015)."""
    if logits.shape != target.shape:
        hint = f"leave {option('distill')} out for new classes"
        raise TrainingError("the teacher has a different head", option("distill"), hint)
    ours, theirs = (F.log_softmax(values.float() / temperature, 1) for values in (logits, target))
    each = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
    return temperature**2 * each.mean()


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, which timm draws from, and restore it afterwards."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
