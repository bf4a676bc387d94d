"""What each graft does once it is trained: how far it has opened, and what closing it alone costs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from attn_surgeon.data.parts import Parts
from attn_surgeon.finetune.precision import in_full_precision
from attn_surgeon.surgery.installed import bypassed, list_grafts
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.surgery.running import hooked
from attn_surgeon.tasks.base import Task


def closing_costs(model: nn.Module, task: Task, parts: Parts, whole: float) -> dict[str, float]:
    """Measure, for each graft alone, what is lost of a metric when it lets its input pass."""
    device = next(model.parameters()).device
    costs = {}
    for made in list_grafts(model):
        with bypassed([made.block]):
            costs[made.path] = whole - task.score(model, parts, device, None).metric
    return costs


def openings(model: nn.Module, task: Task, parts: Parts) -> dict[str, float]:
    """Measure how much each graft changes what it is given, as a share of its length: ‖f(x) − x‖ / ‖x‖.

    Over the first validation images; 0 is a graft that is still the identity.
    """
    device = next(model.parameters()).device
    with in_full_precision(model), mode(model, training=False), torch.no_grad(), _changes(model) as sums:
        for images in task.samples(parts):
            model(images.to(device))
    return {path: (changed / whole) ** 0.5 if whole else 0.0 for path, (changed, whole) in sums.items()}


@contextmanager
def _changes(model: nn.Module) -> Iterator[dict[str, tuple[float, float]]]:
    """Add up the squares of what grafts change and of what they are given."""
    sums = {made.path: (0.0, 0.0) for made in list_grafts(model)}

    def look(path: str, given: Tensor, out: Tensor) -> None:
        changed, whole = sums[path]
        x = given.double()
        sums[path] = (changed + float((out.double() - x).square().sum()), whole + float(x.square().sum()))

    handles = (
        made.block.register_forward_hook(lambda own, args, out, path=made.path: look(path, args[0], out))
        for made in list_grafts(model)
    )
    with hooked(handles):
        yield sums
