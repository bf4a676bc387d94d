"""Choose a set under a budget: greedily by score for the cost, one block a site, in rounds.

After each round the chosen candidates take a look-ahead step, and all others are scored again in the network as it is
then: what two candidates both give counts once. So the set is not chosen by the sum of single scores.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import chain

from attn_surgeon.scouting.candidates import Candidate
from attn_surgeon.scouting.costs import Budget, CandidateCost
from attn_surgeon.scouting.scores import Estimate

CERTAIN = 2.0  # standard errors by which a score must be above zero

Place = tuple[str, str]


@dataclass(frozen=True)
class _Move:
    """Put a candidate at its site, in place of one that this round has put there, if any."""

    candidate: Candidate
    score: float
    share: float

    @property
    def rate(self) -> float:
        """The score for the share of the budget."""
        return self.score / self.share if self.share > 0 else float("inf")


def greedy(
    scores: Mapping[Candidate, Estimate],
    costs: Mapping[Candidate, CandidateCost],
    budget: Budget,
    *,
    taken: Collection[Candidate] = (),
    until: float = 1.0,
) -> list[Candidate]:
    """Return the candidates to add, at most one a site, whose scores are certainly above zero.

    A move adds a candidate, or replaces one that was added by a better one at its site; of all moves that the budget
    allows, the one with the most score for its share of the budget is made.

    Args:
        scores: the scores.
        costs: the costs.
        budget: what all may cost together.
        taken: candidates that are chosen already; their sites are not free.
        until: the share of the budget at which to stop.
    """
    occupied = {_place(each) for each in taken}
    free = {each: own.value for each, own in scores.items() if is_above_zero(own) and _place(each) not in occupied}
    added: dict[Place, Candidate] = {}
    while _share(chain(taken, added.values()), costs, budget) < until:
        moves = [
            _move(each, score, added.get(_place(each)), scores, costs, budget)
            for each, score in free.items()
            if _share(chain(taken, (own for at, own in added.items() if at != _place(each)), [each]), costs, budget)
            <= 1
        ]
        best = max((move for move in moves if move.score > 0), key=lambda move: move.rate, default=None)
        if best is None:
            break
        added[_place(best.candidate)] = best.candidate
    return list(added.values())


def is_above_zero(score: Estimate, errors: float = CERTAIN) -> bool:
    """Return whether a score is above zero by more than so many standard errors."""
    return score.value > errors * score.error


def _place(candidate: Candidate) -> Place:
    return candidate.site, candidate.side


def _share(chosen: chain[Candidate], costs: Mapping[Candidate, CandidateCost], budget: Budget) -> float:
    kept = [costs[each] for each in chosen]
    total = CandidateCost(sum(cost.parameters for cost in kept), 0, sum(cost.seconds for cost in kept))
    return budget.share(total)


def _move(
    candidate: Candidate,
    score: float,
    instead: Candidate | None,
    scores: Mapping[Candidate, Estimate],
    costs: Mapping[Candidate, CandidateCost],
    budget: Budget,
) -> _Move:
    share = budget.share(costs[candidate])
    if instead is None:
        return _Move(candidate, score, share)
    return _Move(candidate, score - scores[instead].value, share - budget.share(costs[instead]))
