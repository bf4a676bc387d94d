"""The trial at the end of scouting, on networks of which it is known what the set and the norms can learn."""

from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.blocks import BlockSpec, register_block
from attn_surgeon.errors import for_python
from attn_surgeon.scouting.batches import Draws
from attn_surgeon.scouting.scores import Estimate
from attn_surgeon.scouting.trial import BOTH, HEAD, NORMS, SET, ScoutTrial, run_trial

from .shifts import FIRST, PlusOne, Squares, chain

TRAINED, MEASURED = (1.0, 1.0), (1.5, 0.5)  # targets of the images that are trained on, and of the others


def draws() -> Draws:
    images = torch.zeros(1, 2, 4, 4)
    head, measured = ([(images, torch.tensor([target]))] * 4 for target in (TRAINED, MEASURED))
    return Draws([], head, measured)


def trial(network: LoadedNetwork, steps: int = 30) -> ScoutTrial:
    register_block("plus-one", PlusOne)
    chosen = [(BlockSpec.read("plus-one", {}), FIRST)]
    return run_trial(network, chosen, cast(Any, Squares()), draws(), steps)


def with_norm() -> LoadedNetwork:
    """Return the network with a norm that can add to zeros what the block can add."""
    network = chain()
    network.model.second = nn.BatchNorm2d(2)
    network.model.eval()
    return network


def test_the_set_gives_more_where_the_head_can_learn_nothing() -> None:
    network = chain()
    before = {name: value.clone() for name, value in network.model.state_dict().items()}
    found = trial(network)
    assert list(found.losses) == [HEAD, SET]
    assert found.images == 4
    assert found.losses[HEAD] == pytest.approx(0.5 * (1.5**2 + 0.5**2))  # zeros stay zeros without a bias
    shift = 1 - math.sqrt(found.losses[SET] - 0.25)  # of both outputs, from the loss ((1.5 - s)² + (0.5 - s)²) / 2
    assert 0.05 < shift < 0.35  # 30 steps of at most 0.01 in γ, beside the head's weights
    assert found.advantage[HEAD].value == pytest.approx(found.losses[HEAD] - found.losses[SET])
    assert "Training the set gave more than training the head alone" in found.verdict
    assert all(torch.equal(value, before[name]) for name, value in network.model.state_dict().items())


def test_the_set_is_trained_beside_the_norms_where_there_are_any() -> None:
    found = trial(with_norm())
    assert list(found.losses) == [HEAD, NORMS, BOTH]
    assert found.losses[BOTH] < found.losses[NORMS] < found.losses[HEAD]  # both move the outputs, which have far to go
    assert found.advantage[NORMS].value == pytest.approx(found.losses[NORMS] - found.losses[BOTH])
    assert found.advantage[HEAD].value == pytest.approx(found.losses[HEAD] - found.losses[BOTH])
    assert "Training the set beside the norms gave more than training the norms" in found.verdict


def test_the_same_trial_again_gives_the_same_losses() -> None:
    assert trial(with_norm(), steps=5).losses == trial(with_norm(), steps=5).losses


@pytest.mark.parametrize(
    ("ahead", "said"),
    [
        (Estimate(-0.1, 0.02), "Training the norms gave more than training the set beside the norms, by 0.1 ± 0.02"),
        (Estimate(-0.1, 0.02), "on data like this, try freeze=base and train_norms without grafts first."),
        (Estimate(0.1, 0.02), "Training the set beside the norms gave more than training the norms, by 0.1 ± 0.02"),
        (Estimate(0.1, 0.02), "on data like this, fine-tune the set with freeze=base and train_norms."),
        (Estimate(0.01, 0.02), "Training the set beside the norms is not shown to give more (+0.01 ± 0.02)"),
        (Estimate(0.01, 0.02), "on data like this, training the norms gave as much."),
    ],
)
def test_the_verdict_compares_with_the_norms_where_they_are_the_best_other(ahead: Estimate, said: str) -> None:
    losses = {HEAD: 1.2, NORMS: 0.8, BOTH: 0.8 - ahead.value}
    assert said in for_python(ScoutTrial(40, 512, losses, {HEAD: Estimate(0.4, 0.01), NORMS: ahead}).verdict)


def test_the_head_alone_is_the_rival_where_it_is_better_than_the_norms() -> None:
    ahead = {HEAD: Estimate(-0.2, 0.01), NORMS: Estimate(0.5, 0.01)}
    verdict = ScoutTrial(40, 512, {HEAD: 1.0, NORMS: 1.7, BOTH: 1.2}, ahead).verdict
    assert "Training the head alone gave more" in verdict


def test_a_training_that_diverged_shows_nothing() -> None:
    ahead = {HEAD: Estimate(0.1, 0.01), NORMS: Estimate(math.nan, math.nan)}
    assert "diverged" in ScoutTrial(40, 512, {HEAD: 1.0, NORMS: math.nan, BOTH: 0.9}, ahead).verdict


def test_the_loss_is_measured_in_eval_mode() -> None:
    """Images that the network was not trained on are passed once, without changing its statistics."""
    network = with_norm()
    seen: list[bool] = []

    class Recording(Squares):
        def batch_loss(self, forward: Any, images: Tensor, targets: Tensor, settings: Any) -> tuple[Tensor, Any]:
            if torch.equal(targets, torch.tensor([MEASURED])):
                seen.append(forward.training)
            return super().batch_loss(forward, images, targets, settings)

    run_trial(network, [], cast(Any, Recording()), draws(), 1)
    assert seen == [False] * 12
