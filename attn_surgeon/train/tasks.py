"""What a network is trained for, and all that differs between the tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch import Tensor, nn

from attn_surgeon.preprocessing import Preprocessing
from attn_surgeon.subject import Subject
from attn_surgeon.train.parts import Parts
from attn_surgeon.train.settings import Settings

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Score:
    """Hold what a network is worth on the validation images: the task's metric, and an outcome for each image."""

    metric: float
    loss: float
    outcomes: tuple[float, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task:
    """Hold the parts of a fine-tune that a task decides.

    `metric` is a share, called so in files, and `title` is what people call it. `loss` takes what the network
    returned and the targets, which are the data's or, mixed, shares of classes. `logits` finds, in what the
    network returned, the scores (N, K, …) that a teacher's are compared with.
    """

    name: str
    metric: str
    title: str
    open_parts: Callable[[str, Preprocessing, Settings], Parts]
    fitted: Callable[[Subject, tuple[str, ...], int], Subject]
    logits: Callable[[Any], Tensor]
    loss: Callable[[Any, Tensor, Settings], Tensor]
    score: Callable[[nn.Module, Parts, Any, Progress | None], Score]


_HOMES = {"classification": "attn_surgeon.train.classification"}


def get_task(name: str) -> Task:
    """Give a task by its name."""
    task: Task = import_module(_HOMES[name]).TASK
    return task
