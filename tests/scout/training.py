"""Train a network as `finetune --freeze` does, without validation, and what an arm trains besides."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from attn_surgeon.data.sampling import EpochImages, EpochSampler
from attn_surgeon.data.splits import Splits
from attn_surgeon.finetune.clipping import clip_gradients
from attn_surgeon.finetune.freezing import freeze, train_mode
from attn_surgeon.finetune.parameter_groups import make_optimizer
from attn_surgeon.finetune.schedule import Schedule
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.tasks import get_task


def train_network(
    model: nn.Module, example: Tensor, splits: Splits, settings: FinetuneSettings, also: str | None = None
) -> None:
    """Train a network in place; parameters with `also` in their names are trained whatever is frozen."""
    frozen = freeze(model, settings, example)
    for name, parameter in model.named_parameters():
        if also is not None and also in name:
            parameter.requires_grad_(True)
    optimizer, data = make_optimizer(model, settings), EpochImages(splits, settings.seed)
    sampler = EpochSampler(len(data), settings.seed)
    loader: DataLoader[Any] = DataLoader(
        data, settings.batch_size, sampler=sampler, collate_fn=splits.collate, drop_last=True
    )
    schedule, step = Schedule(settings, len(loader) * settings.epochs), 0
    if settings.channels_last:
        model.to(memory_format=torch.channels_last)
    train_mode(model, frozen)
    torch.manual_seed(settings.seed)
    for epoch in range(settings.epochs):
        sampler.epoch = epoch
        for images, targets in loader:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * schedule(step)
            _step(model, images, targets, settings, optimizer)
            step += 1
    model.eval()


def _step(model: nn.Module, images: Any, targets: Any, settings: FinetuneSettings, optimizer: Any) -> None:
    if settings.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    get_task(settings.task).batch_loss(model, images, targets, settings)[0].backward()  # type: ignore[no-untyped-call]
    clip_gradients(optimizer, settings.clip_grad)
    optimizer.step()
    optimizer.zero_grad()
