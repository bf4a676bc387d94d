"""Tasks: what a network predicts, and all that differs between one task and another."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from attn_surgeon.tasks.base import Task

# Each task's class, imported where the task is first used. A new task is one file and one line here.
TASKS = {
    "classification": "attn_surgeon.tasks.classification:Classification",
    "segmentation": "attn_surgeon.tasks.segmentation:Segmentation",
}
DEFAULT = "classification"


def get_task(name: str) -> Task:
    """Return a task by its name.

    Args:
        name: a key of TASKS.

    >>> get_task("segmentation").metric.title
    'mIoU'
    """
    module, _, kind = TASKS[name].partition(":")
    task: Task = getattr(import_module(module), kind)()
    return task


def infer_task(spec: str) -> str:
    """Return the name of the task that data is for: the first that recognises it, else classification.

    >>> infer_task("demo")
    'classification'
    """
    return next((name for name in TASKS if get_task(name).recognises(spec)), DEFAULT)
