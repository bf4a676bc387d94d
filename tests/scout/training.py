"""Train a network as `finetune --freeze` does, without validation, and what an arm trains besides."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from attn_surgeon.data.sampling import EpochImages, EpochSampler
from attn_surgeon.data.splits import Splits
from attn_surgeon.finetune.freezing import freeze, train_mode
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.scouting.batches import Batch
from attn_surgeon.scouting.short_training import take_steps
from attn_surgeon.tasks import get_task


def train_network(
    model: nn.Module, example: Tensor, splits: Splits, settings: FinetuneSettings, also: str | None = None
) -> None:
    """Train a network in place; parameters with `also` in their names are trained whatever is frozen."""
    frozen = freeze(model, settings, example)
    for name, parameter in model.named_parameters():
        if also is not None and also in name:
            parameter.requires_grad_(True)
    data = EpochImages(splits, settings.seed)
    sampler = EpochSampler(len(data), settings.seed)
    loader: DataLoader[Any] = DataLoader(
        data, settings.batch_size, sampler=sampler, collate_fn=splits.collate, drop_last=True
    )
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    train_mode(model, frozen)
    torch.manual_seed(settings.seed)
    batches = _batches(loader, sampler, settings)
    take_steps(model, get_task(settings.task), settings, batches, len(loader) * settings.epochs)
    model.eval()


def _batches(loader: DataLoader[Any], sampler: EpochSampler, settings: FinetuneSettings) -> Iterator[Batch]:
    for epoch in range(settings.epochs):
        sampler.epoch = epoch
        for images, targets in loader:
            yield images.contiguous(memory_format=torch.channels_last) if settings.channels_last else images, targets
