"""Measure trained grafts: how much each changes its input, and how much of the metric is lost if it is bypassed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from attn_surgeon.data.images import ImageData
from attn_surgeon.progress import PhaseProgress, no_phases
from attn_surgeon.surgery.installed_grafts import bypassed, list_grafts
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.surgery.running import hooked
from attn_surgeon.tasks.base import ScoreOptions, Task


def bypass_costs(
    model: nn.Module, task: Task, data: ImageData, metric: float, progress: PhaseProgress = no_phases
) -> dict[str, float]:
    """Return, for each graft's path, how much of the metric is lost if it alone is bypassed."""
    options = ScoreOptions(device=next(model.parameters()).device, with_loss=False)
    costs, grafts = {}, list_grafts(model)
    for number, made in enumerate(grafts, 1):
        report = partial(progress, f"evaluate, graft {number} of {len(grafts)} bypassed")
        with bypassed([made.block]):
            costs[made.path] = metric - task.score(model, data, options, report).metric
    return costs


def openings(model: nn.Module, task: Task, data: ImageData) -> dict[str, float]:
    """Return, for each graft's path, how much it changes its input x: ‖f(x) - x‖ / ‖x‖ over the first images.

    It is 0 for a graft that is still the identity.
    """
    device = next(model.parameters()).device
    with mode(model, training=False), torch.no_grad(), _squared_norms(model) as sums:
        for images in task.samples(data):
            task.run(model, images.to(device))
    return {path: (changed / whole) ** 0.5 if whole else 0.0 for path, (changed, whole) in sums.items()}


@contextmanager
def _squared_norms(model: nn.Module) -> Iterator[dict[str, tuple[float, float]]]:
    """Yield the summed squares of each graft's change and of its input, updated whenever the network runs."""
    sums = {made.path: (0.0, 0.0) for made in list_grafts(model)}

    def look(path: str, x: Tensor, out: Tensor) -> None:
        changed, whole = sums[path]
        x = x.double()
        sums[path] = (changed + float((out.double() - x).square().sum()), whole + float(x.square().sum()))

    handles = (
        made.block.register_forward_hook(lambda own, args, out, path=made.path: look(path, args[0], out))
        for made in list_grafts(model)
    )
    with hooked(handles):
        yield sums
