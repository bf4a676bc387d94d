"""Four transfers of a pretrained network to other data, each with the network that all arms start from.

Classifiers start with a head that is fitted on frozen features. The segmentation network and the detector have an
encoder that was pretrained on ImageNet; all else of them is trained first, behind the frozen encoder.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader

from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.data.splits import Splits
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks.preprocessing import PreprocessingOverrides
from attn_surgeon.scouting.head import fit_linear_head
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.base import Task
from tests.benchmarks import cifar

from .dense_networks import SIDE
from .networks import efficientnet, groceries
from .training import train_network

FROZEN = FinetuneSettings(freeze="base", augment=False, channels_last=True)


@dataclass(frozen=True)
class Transfer:
    """A network, other data, and how all arms are trained.

    Args:
        open: returns the pretrained network.
        data: returns the folder of the data.
        settings: how all arms are trained.
        start: how all behind the encoder is trained first; None where only a head is fitted.
    """

    open: Callable[[], LoadedNetwork]
    data: Callable[[], Path]
    settings: FinetuneSettings
    start: FinetuneSettings | None = None

    @property
    def task(self) -> Task:
        """The task."""
        return get_task(self.settings.task)

    def prepared(self, settings: FinetuneSettings, cache: Path) -> tuple[LoadedNetwork, Splits]:
        """Return the network that all arms start from, and the data; the start is kept in a file."""
        loaded = self.open()
        splits = self.task.open_splits(str(self.data()), loaded.preprocessing, settings)
        loaded = self.task.fit_head(loaded, splits.train.class_names, settings)
        if cache.exists():
            loaded.model.load_state_dict(load_file(cache))
        elif self.start is None:
            fit_linear_head(loaded.model, loaded.example, self.task, settings, _batches(splits))
        else:
            train_network(loaded.model, loaded.example, splits, self.start)
        if not cache.exists():
            save_file({name: value.contiguous() for name, value in loaded.model.state_dict().items()}, cache)
        return loaded, splits


def _batches(splits: Splits) -> list[tuple[Any, Any]]:
    loader: DataLoader[Any] = DataLoader(splits.train.dataset, 64, collate_fn=splits.collate)
    return [(images, targets) for images, targets in loader]


def _own(function: str, side: int, mean: float, std: float) -> LoadedNetwork:
    file = Path(__file__).with_name("dense_networks.py")
    images = PreprocessingOverrides((mean,) * 3, (std,) * 3, (side, side))
    return open_network(f"{file}:{function}", weights="none", images=images)


CROP = 128
TRANSFERS = {
    "cifar": Transfer(cifar.resnet20, lambda: cifar.unpacked("cifar10-jpeg"), replace(FROZEN, epochs=3, limit=5000)),
    "groceries": Transfer(efficientnet, groceries, replace(FROZEN, epochs=3)),
    "membranes": Transfer(
        lambda: _own("membrane_unet", CROP, 0.5, 0.5),
        lambda: cifar.unpacked("em-membrane"),
        replace(FROZEN, task="segmentation", epochs=2, batch_size=8, crop=CROP, lr=3e-3),
        FinetuneSettings(task="segmentation", epochs=3, batch_size=8, crop=CROP, lr=3e-3, freeze="until:decoder"),
    ),
    "cells": Transfer(
        lambda: _own("cells_detector", SIDE, 0.0, 1.0),
        lambda: cifar.unpacked("blood-cells"),
        replace(FROZEN, task="detection", epochs=4, batch_size=4, lr=3e-3, channels_last=False),
        FinetuneSettings(task="detection", epochs=5, batch_size=4, lr=2e-3, augment=False, freeze="until:backbone.fpn"),
    ),
}
