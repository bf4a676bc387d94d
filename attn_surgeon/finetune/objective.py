"""What a step minimises: the task's loss, on images that may be mixed, and the distance to a teacher."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_surgeon.finetune.settings import Settings, TrainingError
from attn_surgeon.tasks.base import Task


@dataclass(frozen=True)
class Objective:
    """Hold what a loss is made of; the teacher is the network before anything was trained."""

    task: Task
    settings: Settings
    classes: int
    teacher: nn.Module | None = None

    def mixed(self, images: Tensor, targets: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """Mix the images of a batch in pairs, drawn from the seed and the step alone (Zhang et al., 2017; Yun, 2019).

        Gives images (N, C, H, W) and shares of classes (N, K); without --mixup and --cutmix what it was given.
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
        even = len(images) - len(images) % 2  # what is mixed needs a partner
        with _numpy_seeded(hash((settings.seed, step))):
            mixed, shares = mix(images[:even].clone(), targets[:even])
        return mixed, shares

    def __call__(self, output: Any, targets: Tensor, images: Tensor) -> Tensor:
        """Give the loss of a batch."""
        loss = self.task.loss(output, targets, self.settings)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            taught = self.task.logits(self.teacher(images))
        near = distance(self.task.logits(output), taught, self.settings.temperature)
        return (1 - self.settings.distill) * loss + self.settings.distill * near


def distance(scores: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """Give T² times the divergence of softened scores (N, K, …) from a teacher's (Hinton et al., 2015)."""
    if scores.shape != taught.shape:
        raise TrainingError("the teacher's head is another one", "--distill", "leave --distill out for new classes")
    ours, theirs = (F.log_softmax(values.float() / temperature, 1) for values in (scores, taught))
    each = F.kl_div(ours, theirs, reduction="none", log_target=True).sum(1)
    return temperature**2 * each.mean()


@contextmanager
def _numpy_seeded(seed: int) -> Iterator[None]:
    """Let NumPy's global stream, which timm draws from, be another one for a while."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)
