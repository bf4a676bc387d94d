"""Robustness: accuracies against a plain loop over corrupted images, and the gain by hand."""

from __future__ import annotations

from typing import cast

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.data.corruptions import KINDS, LEVELS, STRENGTHS, corrupt
from attn_surgeon.evaluate.accuracy import balanced
from attn_surgeon.evaluate.answers import Reading, examine
from attn_surgeon.evaluate.compare import Rivals
from attn_surgeon.evaluate.robust import Trial, gain, means, robustness
from attn_surgeon.evaluate.statistics import Interval, image_interval
from attn_surgeon.evaluate.views import Views, open_views, pools_of
from attn_surgeon.networks.demo import DEMO_PREPROCESSING, load_demo

FEW = Reading(limit=24)


def untrained() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))


@pytest.mark.parametrize("kind", ["noise", "clutter"])
def test_accuracies_are_those_of_a_plain_loop(kind: str) -> None:
    data, models = open_views("demo", "val", [DEMO_PREPROCESSING])[0], [load_demo(), untrained()]
    seen: list[tuple[int, int]] = []
    trials = robustness(models, data, FEW, seed=3, progress=lambda done, total: seen.append((done, total)))
    views = cast(Views, data.dataset)
    transform, (pool,) = DEMO_PREPROCESSING.transform(), pools_of(views)
    for trial in trials:
        if (trial.kind, trial.strength) not in {(kind, 2), (kind, 5)}:
            continue
        images, labels = [], []
        for index in balanced(views.labels, 24):
            picture, label = views.pictures[index]
            others = [other for place, other in pool.items() if place != index]
            images.append(transform(corrupt(picture, kind, trial.strength, (3, index), others)))
            labels.append(label)
        for model, right in zip(models, trial.right, strict=True):
            with torch.inference_mode():
                expected = model(torch.stack(images)).argmax(1) == torch.tensor(labels)
            assert right.tolist() == expected.tolist()
    assert [(trial.kind, trial.strength, trial.level) for trial in trials] == [
        (name, strength, LEVELS[name][strength - 1]) for name in KINDS for strength in STRENGTHS
    ]
    assert seen == [(24 * number, 480) for number in range(1, 21)]


def test_the_same_seed_gives_the_same_and_another_does_not() -> None:
    data, models = open_views("demo-clutter", "val", [DEMO_PREPROCESSING])[0], [load_demo()]
    found = [robustness(models, data, Reading(limit=16), seed=seed) for seed in (0, 0, 1)]
    rights = [[trial.right[0].tolist() for trial in trials] for trials in found]
    assert rights[0] == rights[1]
    assert rights[0] != rights[2]


def test_a_network_never_shown_clean_images_is_scored_on_them() -> None:
    data = open_views("demo", "val", [DEMO_PREPROCESSING])[0]
    ((clean, _),) = examine([load_demo()], data, FEW)
    hard = [trial for trial in robustness([load_demo()], data, FEW) if trial.strength == 5]
    assert clean.top1 == 1.0
    assert min(trial.shares[0] for trial in hard) < 0.9


def trials(first: Tensor, second: Tensor) -> list[Trial]:
    """Make trials with these answers (20, N), right or wrong."""
    names = [(kind, strength) for kind in KINDS for strength in STRENGTHS]
    return [Trial(*name, (own, other)) for name, own, other in zip(names, first, second, strict=True)]


def test_the_gain_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(20, 60, generator=generator) < share for share in (0.8, 0.5))
    clean = torch.ones(60).bool(), second[2] & second[3]
    found = gain(trials(first, second), tuple(clean), Rivals("a", None))
    ahead = first.double() - second.double()
    assert close(found.mean, ahead.mean(0))
    for number, kind in enumerate(KINDS):
        assert close(found.kinds[kind], ahead[5 * number : 5 * number + 5].mean(0))
    on_clean = clean[0].double() - clean[1].double()
    assert close(found.beyond_clean, ahead.mean(0) - on_clean, most=2.0)
    assert found.verdict.startswith("The evidence shows a gain from leaving the grafts in on corrupted images (+")
    assert found.verdict_beyond_clean.startswith(
        "The evidence shows a loss in that difference from clean to corrupted images"
    )
    shares = means(trials(first, second), 1)
    assert shares["blur"] == pytest.approx(float(second[5:10].double().mean()))
    assert shares["mean"] == pytest.approx(float(second.double().mean()))


def test_networks_that_do_the_same_show_nothing() -> None:
    right = torch.rand(20, 60) < 0.7
    found = gain(trials(right, right), (right[0], right[0]), Rivals("a", "b"))
    assert "neither a gain nor a loss of a over b on corrupted images" in found.verdict
    assert found.mean.low == -found.mean.high < -0.02


def close(found: Interval, differences: Tensor, most: float = 1.0) -> bool:
    expected = image_interval(differences.tolist(), most)
    return list(vars(found).values()) == pytest.approx(list(vars(expected).values()), abs=1e-12)
