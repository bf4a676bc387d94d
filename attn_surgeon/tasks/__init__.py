"""The registry of tasks, such as classification and detection: data, head, loss, metric and report of each."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from attn_surgeon.errors import SettingsError, nearest, option

if TYPE_CHECKING:
    from attn_surgeon.tasks.base import Task

# The class of each task, imported on first use. To add a task, add a file and a line here.
TASKS = {
    "classification": "attn_surgeon.tasks.classification:Classification",
    "segmentation": "attn_surgeon.tasks.segmentation:Segmentation",
    "detection": "attn_surgeon.tasks.detection:Detection",
}
DEFAULT = "classification"


def get_task(name: str) -> Task:
    """Return a task by its name.

    Args:
        name: a key of TASKS.

    Raises:
        SettingsError: there is no such task.

    >>> get_task("segmentation").metric.title
    'mIoU'
    """
    if name not in TASKS:
        hint = nearest(name, TASKS) or f"known: {', '.join(TASKS)}"
        raise SettingsError(f"unknown task '{name}'", option("task"), hint)
    module, _, kind = TASKS[name].partition(":")
    task: Task = getattr(import_module(module), kind)()
    return task


def infer_task(spec: str) -> str:
    """Return the name of the first task that recognises the data, or else classification.

    >>> infer_task("demo")
    'classification'
    """
    return next((name for name in TASKS if get_task(name).recognises(spec)), DEFAULT)
