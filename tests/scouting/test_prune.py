"""Pruning removes the grafts that cost nothing on validation data, and keeps those that are needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.blocks import register_block
from attn_surgeon.errors import PlanError, SettingsError
from attn_surgeon.operations.insert import insert
from attn_surgeon.scouting.prune import Pruning, Removal, prune
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.tasks.statistics import Interval


class Negative(nn.Module):
    """Change the sign; blended in by γ = 1, it negates."""

    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return -x


@pytest.fixture(scope="module")
def demo() -> LoadedNetwork:
    return open_network("demo")


def needed(demo: LoadedNetwork) -> nn.Module:
    """Return the demo with a head that was negated, and grafts: one that negates it back and two that do nothing."""
    register_block("negative", Negative)
    model = insert(demo.model, "negative", after=["layer2", "layer3"], example=demo.example)
    model = insert(model, "se", after="layer1", example=demo.example, inplace=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name == "fc.weight":
                parameter.neg_()
            if name.endswith("gamma") and "layer3" in name:
                parameter.fill_(1.0)
    return model


def test_grafts_that_are_needed_are_kept(demo: LoadedNetwork) -> None:
    model = needed(demo)
    found = prune(model, data="demo", limit=60, max_loss=0.1)
    assert [(step.place, step.lost.estimate) for step in found.removed] == [
        ("after layer1", 0.0),
        ("after layer2", 0.0),
    ]
    kept = found.steps[-1]
    assert (kept.place, kept.removed) == ("after layer3", False)
    assert kept.lost.low > 0.5  # without it the network is wrong nearly always
    assert [graft.place for graft in list_grafts(found.model)] == ["after layer3"]
    assert len(list_grafts(model)) == 3
    assert torch.equal(found.model(demo.example), model(demo.example))
    assert found.before > 0.9
    assert found.summary.startswith("All removals together lose 0.00 points of top-1; the interval over")


def test_a_loss_below_zero_is_called_a_gain() -> None:
    step = Removal("after layer1", "se", 10, Interval(-0.0042, -0.01, 0.0016), {}, removed=True)
    found = Pruning(nn.Identity(), "mAP", 200, 0.1, 0.5, (step,), 0)
    lead = "All removals together gain 0.42 points of mAP; the interval over 200 images reaches to a"
    assert found.summary.startswith(f"{lead} loss of 0.16. ")
    step = replace(step, lost=Interval(-0.0042, -0.01, -0.0016))
    assert replace(found, steps=(step,)).summary.startswith(f"{lead} gain of 0.16. ")


def test_all_may_go_where_the_loss_may_be_large(demo: LoadedNetwork) -> None:
    found = prune(needed(demo), data="demo", limit=60, max_loss=100.0)
    assert list_grafts(found.model) == []
    assert [step.removed for step in found.steps] == [True, True, True]


def test_certainty_needs_the_whole_interval_below_the_threshold(demo: LoadedNetwork) -> None:
    """Two pseudo-observations widen an interval of zero."""
    model = insert(demo.model, "se", after="layer1", example=demo.example)
    found = prune(
        model, data="demo", limit=60, max_loss=0.1, certain=True
    )  # two pseudo-observations widen an interval of zero
    assert (found.removed, found.kept) == ((), 1)
    assert 100 * found.steps[0].lost.high > 0.1
    assert found.summary == "No graft can be removed for a loss of at most 0.1 points."


def test_without_grafts_there_is_nothing_to_prune(demo: LoadedNetwork) -> None:
    with pytest.raises(PlanError, match="the network has no grafts"):
        prune(demo, data="demo")
    with pytest.raises(SettingsError, match="max_loss"):
        prune(demo, data="demo", max_loss=-1)


def test_an_unknown_task_is_refused_with_the_nearest(demo: LoadedNetwork) -> None:
    with pytest.raises(SettingsError, match="unknown task 'detektion'; task; did you mean detection"):
        prune(needed(demo), data="demo", task="detektion")
