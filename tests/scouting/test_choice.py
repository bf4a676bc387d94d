"""The greedy choice under a budget, and the rounds after which candidates are scored again."""

from __future__ import annotations

import pytest

from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import SettingsError
from attn_surgeon.scouting.candidates import Candidate
from attn_surgeon.scouting.choice import greedy
from attn_surgeon.scouting.costs import Budget, CandidateCost, read_budget
from attn_surgeon.scouting.scores import Estimate
from attn_surgeon.scouting.search import Search
from attn_surgeon.surgery.sites.selection import Selection

from .shifts import FIRST, SECOND, chain, lineup, problem

A, B, C = (Candidate(site, "after", "se") for site in ("a", "b", "c"))
LARGE_A = Candidate("a", "after", "cpca")


def choose(values: dict[Candidate, tuple[float, float]], costs: dict[Candidate, int], most: float) -> list[Candidate]:
    scores = {each: Estimate(*value) for each, value in values.items()}
    return greedy(scores, {each: CandidateCost(cost, 0, 0.0) for each, cost in costs.items()}, Budget(most))


def test_the_best_for_the_cost_come_first_as_long_as_they_fit() -> None:
    values = {A: (1.0, 0.1), B: (3.0, 0.1), C: (5.0, 0.1)}
    assert choose(values, {A: 10, B: 10, C: 100}, 25) == [B, A]
    assert choose(values, {A: 10, B: 10, C: 100}, 120) == [B, A, C]


def test_scores_that_may_be_zero_are_left_out() -> None:
    assert choose({A: (1.0, 0.6), B: (1.0, 0.4), C: (-1.0, 0.1)}, {A: 1, B: 1, C: 1}, 10) == [B]


def test_a_better_block_replaces_one_at_its_site_where_it_fits() -> None:
    values = {A: (1.0, 0.1), LARGE_A: (4.0, 0.1), B: (2.0, 0.1)}
    costs = {A: 1, LARGE_A: 40, B: 10}
    assert choose(values, costs, 50) == [LARGE_A, B]
    assert choose(values, costs, 20) == [A, B]


def test_both_limits_hold() -> None:
    costs = {A: CandidateCost(1, 0, 0.9), B: CandidateCost(1, 0, 0.5), C: CandidateCost(100, 0, 0.1)}
    scores = dict.fromkeys(costs, Estimate(1.0, 0.1))
    assert greedy(scores, costs, Budget(100.0, 1.0)) == [B]
    assert greedy(scores, costs, Budget(100.0, 2.0)) == [B, A]


def test_a_second_candidate_is_scored_after_the_step_of_the_first() -> None:
    """Both would lower the loss by the same, and after the first has moved by 0.3 the slope is 1 − 0.3."""
    made, targets = lineup(), [(1.0, 0.0)] * 4
    spec = BlockSpec.read("plus-one", {})
    search = Search(chain(), {"plus-one": spec}, Selection.read(after=("first", "second")), problem(targets), 10)
    first = search.score([made], ["gain"])
    costs = dict.fromkeys((FIRST, SECOND), CandidateCost(1, 0, 0.0))
    chosen = search.choose(first, "gain", costs, Budget(2.0))
    assert [(each, choice.round, round(choice.score.value, 6)) for each, choice in chosen.items()] == [
        (FIRST, 1, 1.0),
        (SECOND, 2, 0.7),
    ]


def test_a_candidate_that_others_make_needless_is_not_chosen() -> None:
    """A step of 0.3 reaches the mean target, so only noise is left for the second candidate."""
    made, targets = lineup(), [(0.2, 0.0), (0.2, 0.0), (0.4, 0.0), (0.4, 0.0)]
    spec = BlockSpec.read("plus-one", {})
    search = Search(chain(), {"plus-one": spec}, Selection.read(after=("first", "second")), problem(targets), 10)
    first = search.score([made], ["gain"])
    costs = dict.fromkeys((FIRST, SECOND), CandidateCost(1, 0, 0.0))
    assert list(search.choose(first, "gain", costs, Budget(2.0))) == [FIRST]


@pytest.mark.parametrize("text", ["0", "-5%", "much", "nan", "inf"])
def test_a_budget_that_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match=r"no budget can be read from .*; budget; write it as 5%"):
        read_budget(text, 100, "budget")


def test_a_candidate_whose_gain_may_be_noise_is_not_chosen_by_any_score() -> None:
    """Gradients of opposite signs have an effective rank of one, with no error, and no gain."""
    made, given = lineup(), problem([(1.0, 0.0), (-1.0, 0.0), (1.0, 0.0), (-1.0, 0.0)])
    spec = BlockSpec.read("plus-one", {})
    search = Search(chain(), {"plus-one": spec}, Selection.read(after=("first", "second")), given, 10)
    first = search.score([made], ["rank", "gain"])
    assert first.scores("rank")[FIRST].value == pytest.approx(1.0)
    assert first.scores("rank")[FIRST].error == pytest.approx(0.0, abs=1e-6)
    costs = dict.fromkeys((FIRST, SECOND), CandidateCost(1, 0, 0.0))
    assert search.choose(first, "rank", costs, Budget(2.0)) == {}
