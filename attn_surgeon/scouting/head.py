"""Fit a linear head on frozen features, so that candidates are scored by what the head cannot learn itself.

Where the output of the network is that of its one linear head, the features before it are computed once and the head
is fitted by L-BFGS; elsewhere it is trained by Adam through the whole network. Both are deterministic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.finetune.freezing import freeze, head_names, heads, train_mode
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.scouting.batches import Batch
from attn_surgeon.surgery.isolation import mode, seeded
from attn_surgeon.surgery.running import hooked
from attn_surgeon.tasks.base import Task
from attn_surgeon.tasks.settings import TaskSettings

PENALTY = 1e-3  # of the squared distance from the weights that the fit starts from
ITERATIONS, PASSES, RATE = 100, 3, 1e-2


def fit_linear_head(
    model: nn.Module, example: Tensor, task: Task, settings: TaskSettings, batches: Sequence[Batch]
) -> None:
    """Fit the head of a network in place, on batches of images and targets; nothing else of the network changes."""
    norms = freeze(model, FinetuneSettings(freeze="base"), example)
    names = head_names(model, example)
    model.requires_grad_(False)
    parameters = [parameter for name, parameter in model.named_parameters() if name in names]
    for parameter in parameters:
        parameter.requires_grad_(True)
    with mode(model, training=False):
        cached = _features(model, example, batches)
    if cached is not None:
        head, features = cached
        _fit(head, parameters, features, lambda output, targets: task.loss(output, targets, settings), batches)
    elif parameters:
        with mode(model, training=True), seeded(settings.seed):
            train_mode(model, norms)
            _train(model, parameters, task, settings, batches)
    model.requires_grad_(False)


@torch.no_grad()
def _features(model: nn.Module, example: Tensor, batches: Sequence[Batch]) -> tuple[nn.Module, list[Tensor]] | None:
    """Return the head and its inputs of each batch, or None where its output is not the network's."""
    names = heads(model, example)
    head = model.get_submodule(names[0]) if len(names) == 1 else None
    if not isinstance(head, nn.Linear):
        return None
    seen: list[tuple[Tensor, Any]] = []
    features = []
    with hooked([head.register_forward_hook(lambda own, args, out: seen.append((args[0], out)))]):
        for images, _ in batches:
            seen.clear()
            output = model(images)
            if len(seen) != 1 or output is not seen[0][1]:
                return None
            features.append(seen[0][0])
    return head, features


def _fit(
    head: nn.Module,
    parameters: Sequence[nn.Parameter],
    features: Sequence[Tensor],
    loss: Callable[[Any, Any], Tensor],
    batches: Sequence[Batch],
) -> None:
    start = [parameter.detach().clone() for parameter in parameters]
    inputs, targets = torch.cat(list(features)), torch.cat([targets for _, targets in batches])
    optimizer = torch.optim.LBFGS(parameters, max_iter=ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        moved = sum((p - before).square().sum() for p, before in zip(parameters, start, strict=True))
        total = loss(head(inputs), targets) + PENALTY * moved
        total.backward()  # type: ignore[no-untyped-call]
        return total

    optimizer.step(closure)  # type: ignore[no-untyped-call]


def _train(
    model: nn.Module, parameters: Sequence[nn.Parameter], task: Task, settings: TaskSettings, batches: Sequence[Batch]
) -> None:
    optimizer = torch.optim.Adam(parameters, RATE)
    for images, targets in [*batches] * PASSES:
        optimizer.zero_grad()
        task.batch_loss(model, images, targets, settings)[0].backward()  # type: ignore[no-untyped-call]
        optimizer.step()
