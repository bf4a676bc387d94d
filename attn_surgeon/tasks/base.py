"""What a network is trained for, and all that differs between the tasks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.data.parts import Parts
from attn_surgeon.finetune.settings import Settings
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.progress import Progress


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
    network returned, the scores (N, K, …) that a teacher's are compared with. `samples` gives batches of the first
    validation images as the network takes them. Outcomes are `counted` where each is right (1) or wrong (0). `picture`
    draws what a trained network says into a folder.
    """

    name: str
    metric: str
    title: str
    open_parts: Callable[[str, Preprocessing, Settings], Parts]
    fitted: Callable[[LoadedNetwork, tuple[str, ...], Settings], LoadedNetwork]
    logits: Callable[[Any], Tensor]
    loss: Callable[[Any, Tensor, Settings], Tensor]
    score: Callable[[nn.Module, Parts, Any, Progress | None], Score]
    samples: Callable[[Parts], Iterable[Tensor]]
    counted: bool = True
    picture: Callable[[nn.Module, Parts, Score, Path], None] | None = None


_HOMES = {
    "classification": "attn_surgeon.tasks.classification",
    "segmentation": "attn_surgeon.tasks.segmentation",
}


def get_task(name: str) -> Task:
    """Give a task by its name."""
    task: Task = import_module(_HOMES[name]).TASK
    return task
