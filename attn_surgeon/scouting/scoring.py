"""Score all candidates of a line-up by any of the definitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from attn_surgeon.progress import Progress, no_progress, of_jobs
from attn_surgeon.scouting.candidates import Candidate, Lineup
from attn_surgeon.scouting.gradients import Problem, closing_gradients, natural_scale
from attn_surgeon.scouting.look_ahead import look_ahead
from attn_surgeon.scouting.scores import SCORES, BatchGradients, Estimate, estimate

LOOK_AHEAD = {"alone": False, "leave-one-out": True}  # whether all of a block are open at once
DEFINITIONS = (*SCORES, *LOOK_AHEAD)


@dataclass(frozen=True)
class Scored:
    """The mean gradients (P,) of candidates, and their scores by definition."""

    gradients: Mapping[Candidate, Tensor]
    scores: Mapping[str, Mapping[Candidate, Estimate]]


def score_candidates(
    lineup: Lineup, problem: Problem, names: Sequence[str], progress: Progress = no_progress
) -> Scored:
    """Return the mean gradients and the scores of all candidates of a line-up.

    Args:
        lineup: the candidates.
        problem: the task with its batches.
        names: the definitions of the scores, of DEFINITIONS.
        progress: is called with the steps done and their total.
    """
    ahead = [name for name in names if name in LOOK_AHEAD]
    gradients = closing_gradients(lineup, problem, of_jobs(progress, 0, 1 + len(ahead)))
    evidence = {each: BatchGradients(rows, natural_scale(lineup, each)) for each, rows in gradients.items()}
    scores = {
        name: {each: estimate(SCORES[name], own) for each, own in evidence.items()} for name in names if name in SCORES
    }
    for number, name in enumerate(ahead, 1):
        step = of_jobs(progress, number, 1 + len(ahead))
        scores[name] = look_ahead(lineup, problem, gradients, together=LOOK_AHEAD[name], progress=step)
    return Scored({each: rows.mean(0) for each, rows in gradients.items()}, scores)
