"""Prepare fine-tuning: open the data, fit the head and check everything before anything is written."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.data.splits import Splits, with_substitutes
from attn_surgeon.errors import DataError, TrainingError, option
from attn_surgeon.finetune.context import require_possible
from attn_surgeon.finetune.parameter_groups import require_optimizer
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.surgery.graft_check import check as check_grafts
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.tasks import DEFAULT, get_task, infer_task
from attn_surgeon.tasks.base import Task


@dataclass(frozen=True)
class FinetuneJob:
    """A network, its data, and how it is fine-tuned.

    Args:
        network: the network with grafts.
        splits: training and validation images.
        settings: how it is trained.
        folder: the run folder.
        control: train the network without grafts too.
        seeds: the number of training runs, with consecutive seeds.
    """

    network: LoadedNetwork
    splits: Splits
    settings: FinetuneSettings
    folder: Path
    control: bool = False
    seeds: int = 1

    @property
    def task(self) -> Task:
        """The task that the network is trained for."""
        return get_task(self.settings.task)

    def at(self, folder: Path) -> FinetuneJob:
        """Return the job in its run folder, which lists unreadable images."""
        return replace(self, folder=folder, splits=with_substitutes(self.splits, folder, self.settings.max_bad))


def open_job(
    network: LoadedNetwork, data: str, settings: FinetuneSettings, *, control: bool = False, seeds: int = 1
) -> FinetuneJob:
    """Open the data, fit the head, and check everything; nothing is written.

    Args:
        network: the network with grafts, whose head is replaced where the data has other classes.
        data: the data, as for `open_pictures`, or a folder with images and masks.
        settings: how it is trained.
        control: train the network without grafts too.
        seeds: the number of training runs.

    Raises:
        DataError: if the data cannot be read, or is for another task.
        TrainingError: if the network cannot be trained with these settings.
    """
    task, inferred = get_task(settings.task), infer_task(data)
    if inferred not in (settings.task, DEFAULT):
        raise DataError(f"this data is for {inferred}", data, f"add {option('task', inferred)}")
    for name in ("mixup", "cutmix"):
        if getattr(settings, name) and not task.mixable:
            raise DataError(f"the targets of {task.name} cannot be mixed", option(name), f"leave {option(name)} out")
    _require_meaning(task, settings)
    splits = task.open_splits(data, network.preprocessing, settings)
    network = task.fit_head(network, splits.train.class_names, settings)
    job = FinetuneJob(network, splits, settings, Path(), control, seeds)
    check_job(job)
    return job


def _require_meaning(task: Task, settings: FinetuneSettings) -> None:
    """Raise DataError for a setting that was changed but is not used by the task."""
    for item in fields(settings):
        if item.name in task.unused_settings and getattr(settings, item.name) != item.default:
            what = f"{item.name} has no meaning for {task.name}"
            raise DataError(what, option(item.name), f"leave {option(item.name)} out")


def check_job(job: FinetuneJob) -> None:
    """Raise TrainingError if a job cannot be carried out."""
    if job.control and not list_grafts(job.network.model):
        what = "the network has no grafts"
        raise TrainingError(what, option("control"), f"insert some first, or leave {option('control')} out")
    check_grafts(job.network.model, job.network.example)
    require_optimizer(job.settings.optimizer)
    if not len(job.splits.train.dataset):  # type: ignore[arg-type]
        raise TrainingError("there are no images to train on", option("data"))
    require_possible(job.network.model, job.settings, job.network.example)
    if job.settings.distill and job.network.fresh:
        hint = f"leave {option('distill')} out, or fine-tune the original first"
        raise TrainingError("distillation needs the original head, and this one is new", option("distill"), hint)
