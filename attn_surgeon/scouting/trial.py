"""Train the head with the set, with the norms and with both for a few steps, and compare the losses."""

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
_RIVALS = {  # what was done, and with which settings of a fine-tune
    HEAD: ("training the head alone", f"{_FROZEN} without grafts"),
    NORMS: ("training the norms", f"{_FROZEN} and {option('train_norms')}"),
}


@dataclass(frozen=True)
class ScoutTrial:
    """What a few steps of training gave.

    Args:
        steps: the steps.
        images: the validation images that losses were measured on.
        losses: the mean loss after training each of HEAD and SET, and where the network has norms, NORMS and BOTH.
        advantage: by how much the loss is lower with SET than with HEAD and with NORMS.
        beside: by how much it is lower with BOTH than with NORMS; None for a network without norms.
    """

    steps: int
    images: int
    losses: Mapping[str, float]
    advantage: Mapping[str, Estimate]
    beside: Estimate | None = None

    @property
    def verdict(self) -> str:
        """Which gave more in the trial, the set or the better one of the others, and what to do on data like this.

        >>> found = ScoutTrial(40, 512, {"head": 0.9, "head and norms": 0.7, "head and set": 0.8},
        ...     {"head": Estimate(0.1, 0.01), "head and norms": Estimate(-0.1, 0.02)})
        >>> found.verdict.partition(". ")[2].partition(":")[0]
        'Training the norms gave more than the set, by 0.1 ± 0.02'
        """
        losses = ", ".join(f"{name} {loss:.4g}" for name, loss in self.losses.items())
        trial = (
            f"In a trial of {counted(self.steps, 'step')} the loss on {self.images:,} validation images was: {losses}."
        )
        if not all(map(math.isfinite, self.losses.values())):
            return f"{trial} Training diverged at the default learning rate, so nothing is shown."
        rival = min(self.advantage, key=self.losses.__getitem__)
        return " ".join([trial, _comparison(rival, self.advantage[rival]), *_beside_norms(self.beside)])


def _comparison(rival: str, ahead: Estimate) -> str:
    what, how = _RIVALS[rival]
    if is_above_zero(ahead):
        size = f"{ahead.value:.2g} ± {ahead.error:.1g}"
        return f"The set gave more than {what}, by {size}: on data like this it is worth a fine-tune."
    if is_above_zero(replace(ahead, value=-ahead.value)):
        size = f"{-ahead.value:.2g} ± {ahead.error:.1g}"
        return f"{what.capitalize()} gave more than the set, by {size}: on data like this, try {how} first."
    shown = f"({ahead.value:+.2g} ± {ahead.error:.1g})"
    return f"No difference between the set and {what} is shown {shown}: on data like this, {what} gave as much."


def _beside_norms(ahead: Estimate | None) -> list[str]:
    if ahead is None:
        return []
    if is_above_zero(ahead):
        size, both = f"{ahead.value:.2g} ± {ahead.error:.1g}", f"{_FROZEN} and {option('train_norms')} with the set"
        return [f"Beside the norms the set gave more than the norms alone, by {size}: try {both}."]
    if is_above_zero(replace(ahead, value=-ahead.value)):
        return [f"Beside the norms the set did harm, by {-ahead.value:.2g} ± {ahead.error:.1g}."]
    return [f"Beside the norms no gain by the set is shown ({ahead.value:+.2g} ± {ahead.error:.1g})."]


def run_trial(
    network: LoadedNetwork,
    chosen: Sequence[tuple[BlockSpec, Candidate]],
    task: Task,
    settings: FinetuneSettings,
    draws: Draws,
    steps: int,
    progress: Progress = no_progress,
) -> ScoutTrial:
    """Train copies of a network as `finetune` with a frozen base does, and return their losses.

    Each is trained on the images that the head may have been fitted on, and measured on validation images.

    Args:
        network: the network with a head that fits.
        chosen: the set.
        task: the task.
        settings: how the copies are trained; the base is frozen.
        draws: the images.
        steps: the steps of each training.
        progress: is called with the steps done and their total.
    """
    arms = [HEAD, NORMS, SET, BOTH] if norm_names(network.model) else [HEAD, SET]
    with_set = copied(network.model)
    insert_candidates(with_set, chosen, network.example, settings.seed)
    losses: dict[str, Tensor] = {}
    for number, name in enumerate(arms):
        model = copied(with_set if name in (SET, BOTH) else network.model)
        own = replace(settings, freeze="base", train_norms=name in (NORMS, BOTH))
        _train(model, network.example, task, own, draws, steps, of_jobs(progress, number, len(arms)))
        losses[name] = _losses(model, task, own, draws)
    images = sum(len(targets) for _, targets in draws.measured)
    ahead = {name: mean_estimate(losses[name] - losses[SET]) for name in arms if name not in (SET, BOTH)}
    beside = mean_estimate(losses[NORMS] - losses[BOTH]) if BOTH in losses else None
    return ScoutTrial(steps, images, {name: float(own.mean()) for name, own in losses.items()}, ahead, beside)


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
