"""Gradients of the task's loss with respect to the closing parameters of candidates, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attn_surgeon.errors import option
from attn_surgeon.memory import require_memory, size_of_tensors
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.scouting.batches import Batch
from attn_surgeon.scouting.candidates import Candidate, Lineup
from attn_surgeon.surgery.isolation import seeded
from attn_surgeon.tasks.base import Task
from attn_surgeon.tasks.settings import TaskSettings


@dataclass(frozen=True)
class Problem:
    """A task with batches of its training images, as (images, targets); the seed is that of dropout."""

    task: Task
    settings: TaskSettings
    batches: Sequence[Batch]
    seed: int = 0

    def loss(self, lineup: Lineup, number: int) -> Tensor:
        """Return the loss (scalar) of a batch; the same batch has the same dropout each time."""
        images, targets = self.batches[number]
        with seeded(self.seed + number):
            return self.task.batch_loss(lineup.model, images, targets, self.settings)[0]

    @torch.no_grad()
    def losses(self, lineup: Lineup, numbers: Sequence[int]) -> Tensor:
        """Return the losses (N,) of batches, without gradients."""
        return torch.stack([self.loss(lineup, number).detach().double() for number in numbers])

    def part(self, start: int, step: int) -> range:
        """Return the numbers of every n-th batch."""
        return range(start, len(self.batches), step)


def closing_gradients(lineup: Lineup, problem: Problem, progress: Progress = no_progress) -> dict[Candidate, Tensor]:
    """Return the gradients (B, P) of each candidate's closing parameters over the batches.

    Raises:
        MemoryLimitError: if they need more memory than there is.
    """
    parameters = {
        candidate: list(lineup.closing(candidate).values()) for candidate in lineup.grafts if lineup.closing(candidate)
    }
    listed = [parameter for own in parameters.values() for parameter in own]
    size = len(problem.batches) * size_of_tensors(parameter.shape for parameter in listed)
    what = f"the gradients of {len(parameters)} candidates over {len(problem.batches)} batches"
    require_memory(size, what, option("at_once"), "choose a smaller one, fewer blocks or fewer batches")
    rows: dict[Candidate, list[Tensor]] = {candidate: [] for candidate in parameters}
    for number in range(len(problem.batches) if listed else 0):
        loss = problem.loss(lineup, number)
        found = iter(torch.autograd.grad(loss, listed, allow_unused=True, materialize_grads=True))
        for candidate, own in parameters.items():
            rows[candidate].append(torch.cat([next(found).detach().flatten() for _ in own]))
        progress(number + 1, len(problem.batches))
    return {candidate: torch.stack(own) for candidate, own in rows.items()}


def natural_scale(lineup: Lineup, candidate: Candidate) -> Tensor:
    """Return the scale (P,) of each closing parameter: 1/√n for the weights and bias of a layer of n inputs, 1 for γ.

    It is the size that such a layer's weights usually have when they are drawn at random.
    """
    closing = lineup.closing(candidate)
    return torch.cat([
        torch.full((parameter.numel(),), _inputs(name, closing) ** -0.5, device=parameter.device)
        for name, parameter in closing.items()
    ])  # fmt: skip


def _inputs(name: str, closing: dict[str, Tensor]) -> int:
    weight = (
        closing.get(f"{name.removesuffix('bias')}weight", closing[name]) if name.endswith("bias") else closing[name]
    )
    return max(1, weight.numel() // max(1, weight.shape[0] if weight.ndim else 1))
