"""Gradients, scores and look-ahead steps are those that are computed by hand."""

from __future__ import annotations

import math

import pytest
import torch

from attn_surgeon.blocks import BlockSpec
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.operations.insert import insert
from attn_surgeon.scouting.candidates import Candidate, line_up
from attn_surgeon.scouting.gradients import closing_gradients, natural_scale
from attn_surgeon.scouting.look_ahead import best_length, look_ahead, steps_against
from attn_surgeon.scouting.scores import SCORES, BatchGradients, estimate
from attn_surgeon.scouting.scoring import score_candidates
from attn_surgeon.surgery.sites.selection import Selection

from .shifts import FIRST, SECOND, chain, lineup, problem

TARGETS = [(1.0, 0.0), (1.0, 0.0), (3.0, 0.0), (3.0, 0.0)]


def test_the_gradient_of_a_batch_is_that_of_each_candidate_alone() -> None:
    found = closing_gradients(lineup(), problem(TARGETS))
    expected = torch.tensor([[-1.0, 0.0], [-1.0, 0.0], [-3.0, 0.0], [-3.0, 0.0]])
    assert torch.equal(found[FIRST], expected)
    assert torch.equal(found[SECOND], expected)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("norm", 2.0),
        ("scaled-norm", 2.0),
        ("fisher", 0.5 * 4 / (5 + 2.5)),  # F = (1 + 1 + 9 + 9) / 4 = 5 and 0, their mean 2.5
        ("signal", 4 / ((4 / 3) / 4)),
        ("rank", 1.0),
        ("gain", 2.0),
        ("alone", (0.3 * 2 - 0.045)),  # t = 0.3: ½ (a² − (a − 0.3)²) = 0.3 a − 0.045 for a = 1 and 3
        ("leave-one-out", (0.3 * 2 - 0.135)),  # ½ ((a − 0.3)² − (a − 0.6)²) = 0.3 a − 0.135
    ],
)
def test_a_score_is_that_computed_by_hand(name: str, value: float) -> None:
    found = score_candidates(lineup(), problem(TARGETS), [name]).scores[name]
    assert found[FIRST].value == pytest.approx(value, rel=1e-5)
    assert found[SECOND].value == pytest.approx(value, rel=1e-5)


def test_leave_one_out_closes_one_of_three() -> None:
    found = score_candidates(lineup("first", "second", "third"), problem(TARGETS), ["leave-one-out"])
    value = 0.3 * 2 - 0.225  # ½ ((a − 0.6)² − (a − 0.9)²) = 0.3 a − 0.225
    assert [each.value for each in found.scores["leave-one-out"].values()] == pytest.approx([value] * 3, rel=1e-5)


def test_look_ahead_has_the_standard_error_of_a_mean() -> None:
    targets = [(1.0, 0.0), (1.0, 0.0), (1.0, 0.0), (3.0, 0.0)]  # every second one is measured on
    made, given = lineup(), problem(targets)
    found = look_ahead(made, given, closing_gradients(made, given), together=False)
    assert found[FIRST].error == pytest.approx(0.3 * math.sqrt(2) / math.sqrt(2), rel=1e-5)


def test_the_length_of_a_step_is_the_one_that_lowers_the_loss_the_most() -> None:
    made, given = lineup(), problem([(0.1, 0.0)] * 4)
    steps = steps_against(made, {key: rows.mean(0) for key, rows in closing_gradients(made, given).items()})
    assert best_length(made, given, {FIRST: steps[FIRST]}, range(4)) == 0.1
    assert best_length(made, given, steps, range(4)) == 0.03  # both at once overshoot with 0.1


def test_candidates_are_closed_again_after_a_step() -> None:
    made = lineup()
    with made.opened({FIRST: torch.tensor([0.25, -0.5])}):
        assert torch.equal(made.model(torch.zeros(1, 2, 4, 4)), torch.tensor([[0.25, -0.5]]))
    assert torch.equal(made.model(torch.zeros(1, 2, 4, 4)), torch.zeros(1, 2))


def test_noise_alone_gives_no_gain() -> None:
    dice = torch.Generator().manual_seed(0)
    gradients = torch.randn(200, 8, 50, generator=dice)
    gains = [SCORES["gain"](BatchGradients(each, torch.ones(50))) for each in gradients]
    mean = sum(gains) / len(gains)
    assert abs(mean) < 3 * torch.tensor(gains).std() / len(gains) ** 0.5
    assert min(SCORES["norm"](BatchGradients(each, torch.ones(50))) for each in gradients) > 1


def test_the_standard_error_of_a_mean_is_the_usual_one() -> None:
    rows = torch.tensor([[1.0], [2.0], [4.0], [9.0]])
    found = estimate(lambda evidence: float(evidence.mean), BatchGradients(rows, torch.ones(1)))
    assert found.value == 4.0
    assert found.error == pytest.approx(float(rows.std()) / 2)


def test_the_natural_scale_is_that_of_the_layers_inputs() -> None:
    made = line_up(chain(), [BlockSpec.read("se", {"reduction": 1})], Selection.read(after="first"))
    (candidate,) = made.grafts
    inputs = made.closing(candidate)["fc2.weight"].shape[1]
    assert torch.equal(natural_scale(made, candidate), torch.full((2 * inputs + 2,), inputs**-0.5))
    made = lineup()
    assert torch.equal(natural_scale(made, FIRST), torch.ones(2))


def test_gradients_beside_other_candidates_are_those_of_one_graft_alone() -> None:
    from attn_surgeon.artefact.open_network import open_network
    from attn_surgeon.scouting.gradients import Problem
    from attn_surgeon.tasks import get_task
    from attn_surgeon.tasks.settings import TaskSettings

    network, x = open_network("demo"), torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3])
    specs = [BlockSpec.read(block, {}) for block in ("eca", "gct", "ese")]
    made = line_up(network, specs, Selection.read(at="stages"))
    given = Problem(get_task("classification"), TaskSettings(), [(x, labels)])
    found = closing_gradients(made, given)[Candidate("layer2", "after", "ese")][0]
    alone = insert(load_demo(), "ese", after="layer2", example=network.example).eval()
    loss = torch.nn.functional.cross_entropy(alone(x), labels)
    gradients = torch.autograd.grad(loss, list(alone.get_submodule("layer2.1.attn_surgeon.after").parameters()))
    expected = torch.cat([each.flatten() for each in gradients])
    torch.testing.assert_close(found, expected)
    assert float(expected.norm()) > 0
