"""Settings of the tasks: the task and its loss."""

from __future__ import annotations

from dataclasses import dataclass

from attn_surgeon.data.settings import BoxSettings
from attn_surgeon.errors import option
from attn_surgeon.settings import setting
from attn_surgeon.tasks import TASKS


def _unknown(name: str) -> str:
    return "" if name in TASKS else f"must be one of {', '.join(TASKS)}"


@dataclass(frozen=True)
class TaskSettings(BoxSettings):
    """The task, its data and its loss."""

    task: str = setting(
        "classification",
        f"Task: {', '.join(TASKS)}.",
        "NAME",
        panel="Data",
        check=_unknown,
        near=TASKS,
    )
    loss: str = setting(
        "ce",
        "Loss: ce (cross-entropy) or bce (binary cross-entropy of each class).",
        "NAME",
        panel="Optimisation",
        choices=("ce", "bce"),
    )
    dice: float = setting(
        1.0,
        f"Weight of the Dice loss, added to {option('loss')}.",
        "WEIGHT",
        panel="Segmentation",
        only="segmentation",
        least=0,
    )
    label_smoothing: float = setting(0.0, "Label smoothing.", "FRACTION", panel="Regularisation", fraction=True)
