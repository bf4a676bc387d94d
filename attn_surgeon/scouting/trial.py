"""Train the head alone, with the norms, and with the set for a few steps, and compare the losses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import counted, option
from attn_surgeon.finetune.freezing import freeze, train_mode
from attn_surgeon.finetune.parameter_groups import norm_names
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.progress import Progress, no_progress, of_jobs
from attn_surgeon.scouting.batches import Draws
from attn_surgeon.scouting.candidates import Candidate, insert_candidates
from attn_surgeon.scouting.choice import is_above_zero
from attn_surgeon.scouting.scores import Estimate, mean_estimate
from attn_surgeon.scouting.short_training import take_steps
from attn_surgeon.surgery.isolation import copied, mode, seeded
from attn_surgeon.tasks.base import Task

HEAD, NORMS, SET, BOTH = "head", "head and norms", "head and set", "head, norms and set"
_FROZEN = option("freeze", "base")
_AND_NORMS = f"{_FROZEN} and {option('train_norms')}"
_HOW = {HEAD: f"{_FROZEN} without grafts", NORMS: f"{_AND_NORMS} without grafts", SET: _FROZEN, BOTH: _AND_NORMS}
_TRAINED = {
    HEAD: "training the head alone",
    NORMS: "training the norms",
    SET: "training the set",
    BOTH: "training the set beside the norms",
}


@dataclass(frozen=True)
class ScoutTrial:
    """What a few steps of training gave.

    Args:
        steps: the steps.
        images: the validation images that losses were measured on.
        losses: the mean loss after training each of HEAD, NORMS and BOTH, or HEAD and SET in a network without norms.
        advantage: by how much the loss is lower with the set than with each of the others.
    """

    steps: int
    images: int
    losses: Mapping[str, float]
    advantage: Mapping[str, Estimate]

    @property
    def verdict(self) -> str:
        """Whether the set gave more in the trial than the better one of the others, and what to do on data like this.

        >>> found = ScoutTrial(40, 512, {"head": 0.9, "head and norms": 0.7, "head, norms and set": 0.6},
        ...     {"head": Estimate(0.3, 0.01), "head and norms": Estimate(0.1, 0.02)})
        >>> found.verdict.partition(". ")[2].partition(":")[0]
        'Training the set beside the norms gave more than training the norms, by 0.1 ± 0.02'
        """
        losses = ", ".join(f"{name} {loss:.4g}" for name, loss in self.losses.items())
        trial = (
            f"In a trial of {counted(self.steps, 'step')} the loss on {self.images:,} validation images was: {losses}."
        )
        if not all(map(math.isfinite, self.losses.values())):
            return f"{trial} Training diverged at the default learning rate, so nothing is shown."
        rival = min(self.advantage, key=self.losses.__getitem__)
        return f"{trial} {_comparison(BOTH if BOTH in self.losses else SET, rival, self.advantage[rival])}"


def _comparison(ours: str, rival: str, ahead: Estimate) -> str:
    size = f"{abs(ahead.value):.2g} ± {ahead.error:.1g}"
    if is_above_zero(ahead):
        gave = f"{_TRAINED[ours].capitalize()} gave more than {_TRAINED[rival]}, by {size}"
        return f"{gave}: on data like this, fine-tune the set with {_HOW[ours]}."
    if is_above_zero(replace(ahead, value=-ahead.value)):
        gave = f"{_TRAINED[rival].capitalize()} gave more than {_TRAINED[ours]}, by {size}"
        return f"{gave}: on data like this, try {_HOW[rival]} first."
    shown = f"{_TRAINED[ours].capitalize()} is not shown to give more ({ahead.value:+.2g} ± {ahead.error:.1g})"
    return f"{shown}: on data like this, {_TRAINED[rival]} gave as much."


def run_trial(
    network: LoadedNetwork,
    chosen: Sequence[tuple[BlockSpec, Candidate]],
    task: Task,
    draws: Draws,
    steps: int,
    seed: int = 0,
    progress: Progress = no_progress,
) -> ScoutTrial:
    """Train copies of a network as `finetune` with a frozen base does, and return their losses.

    Each is trained on the images that the head may have been fitted on, and measured on validation images.

    Args:
        network: the network with a head that fits.
        chosen: the set.
        task: the task.
        draws: the images.
        steps: the steps of each training.
        seed: the seed of the blocks' randomly initialised layers and of dropout.
        progress: is called with the steps done and their total.
    """
    arms = [HEAD, NORMS, BOTH] if norm_names(network.model) else [HEAD, SET]
    losses: dict[str, Tensor] = {}
    for number, name in enumerate(arms):
        model = copied(network.model)
        if name in (SET, BOTH):
            insert_candidates(model, chosen, network.example, seed)
        train_norms = name in (NORMS, BOTH)
        own = FinetuneSettings(task=task.name, augment=False, freeze="base", train_norms=train_norms, seed=seed)
        _train(model, network.example, task, own, draws, steps, of_jobs(progress, number, len(arms)))
        losses[name] = _losses(model, task, own, draws)
    images = sum(len(targets) for _, targets in draws.measured)
    *rivals, ours = arms
    ahead = {name: mean_estimate(losses[name] - losses[ours]) for name in rivals}
    return ScoutTrial(steps, images, {name: float(own.mean()) for name, own in losses.items()}, ahead)


def _train(
    model: nn.Module,
    example: Tensor,
    task: Task,
    settings: FinetuneSettings,
    draws: Draws,
    steps: int,
    progress: Progress,
) -> None:
    frozen = freeze(model, settings, example)
    with seeded(settings.seed):
        train_mode(model, frozen)
        take_steps(model, task, settings, cycle(draws.head), steps, progress)


@torch.no_grad()
def _losses(model: nn.Module, task: Task, settings: FinetuneSettings, draws: Draws) -> Tensor:
    """Return the loss of each batch (B,) of validation images, in eval mode."""
    found = []
    with mode(model, training=False):
        for number, (images, targets) in enumerate(draws.measured):
            with seeded(number):
                found.append(task.batch_loss(model, images, targets, settings)[0].double())
    return torch.stack(found)
