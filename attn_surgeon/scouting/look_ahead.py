"""Look-ahead scores: take one step with candidates, and measure on other batches by how much the loss falls.

The step is against the sign of the mean gradient, t times each parameter's natural scale. Directions and t come from
every second batch; losses are measured on the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from torch import Tensor

from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.scouting.candidates import Candidate, Lineup
from attn_surgeon.scouting.gradients import Problem, natural_scale
from attn_surgeon.scouting.scores import Estimate, mean_estimate

STEP_LENGTHS = (0.003, 0.01, 0.03, 0.1, 0.3)


def steps_against(lineup: Lineup, gradients: Mapping[Candidate, Tensor]) -> dict[Candidate, Tensor]:
    """Return the step (P,) of length one of each candidate, from mean gradients (P,)."""
    return {key: -natural_scale(lineup, key) * mean.sign() for key, mean in gradients.items()}


def best_length(lineup: Lineup, problem: Problem, steps: Mapping[Candidate, Tensor], numbers: Sequence[int]) -> float:
    """Return the length of the step, taken by all candidates at once, for which the loss of batches falls the most.

    It is the shortest one where none makes the loss fall.
    """
    losses = []
    for length in STEP_LENGTHS:
        with lineup.opened({key: length * step for key, step in steps.items()}):
            losses.append(float(problem.losses(lineup, numbers).mean()))
    return STEP_LENGTHS[min(range(len(STEP_LENGTHS)), key=losses.__getitem__)]


def look_ahead(
    lineup: Lineup,
    problem: Problem,
    gradients: Mapping[Candidate, Tensor],
    *,
    together: bool,
    progress: Progress = no_progress,
) -> dict[Candidate, Estimate]:
    """Return by how much a step lowers the loss of each candidate's network.

    Args:
        lineup: the candidates.
        problem: the task with its batches, at least two.
        gradients: the gradients (B, P) of each candidate.
        together: open all candidates of the same block at once, and close each alone (leave-one-out); otherwise open
            each alone.
        progress: is called with the candidates done and their total.
    """
    first, second = problem.part(0, 2), list(problem.part(1, 2))
    steps = steps_against(lineup, {key: rows[first.start :: first.step].mean(0) for key, rows in gradients.items()})
    falls: dict[Candidate, Tensor] = {}
    for _, keys in groupby(sorted(steps, key=_block), key=_block):
        own = {key: steps[key] for key in keys}
        length = best_length(lineup, problem, own, first)
        scaled = {key: length * step for key, step in own.items()}
        with lineup.opened(scaled if together else {}):
            before = problem.losses(lineup, second)
        for key in own:
            opened = {each: step for each, step in scaled.items() if (each == key) != together}
            with lineup.opened(opened):
                change = problem.losses(lineup, second) - before
            falls[key] = change if together else -change
            progress(len(falls), len(steps))
    return {key: mean_estimate(falls[key]) for key in gradients}


def _block(candidate: Candidate) -> str:
    return candidate.block
