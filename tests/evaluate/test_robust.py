"""Robustness: accuracies against a plain loop over corrupted images, and the gain by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.data.corrupted import CorruptedScenes, LabelledImages
from attn_surgeon.data.corruptions import CORRUPTION_KINDS, LEVELS, STRENGTHS, corrupt
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.segmentation_images import open_scenes
from attn_surgeon.data.subsets import ImageSubset, balanced
from attn_surgeon.evaluate.compare import ComparedNames
from attn_surgeon.evaluate.robust import TRIALS, Trial, describe_trials, means, robust_gain, run_trials
from attn_surgeon.networks.demo import DEMO_PREPROCESSING, load_demo
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.settings import TaskSettings
from attn_surgeon.tasks.statistics import Interval, image_interval

from ..data.cells import RGB, labeller, write
from ..finetune.helpers import loaded

CLASSIFICATION, SEGMENTATION = get_task("classification"), get_task("segmentation")
DEMO: LoadedNetwork = loaded()


def untrained() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(1024, 10))


def opened(spec: str, limit: int) -> ImageData:
    return CLASSIFICATION.open_split(DEMO, spec, "val", TaskSettings(limit=limit))


@pytest.mark.parametrize("kind", ["noise", "clutter"])
def test_accuracies_are_those_of_a_plain_loop(kind: str) -> None:
    data, models = opened("demo", 24), [load_demo(), untrained()]
    seen: list[tuple[int, int]] = []
    trials = run_trials(
        CLASSIFICATION, models, [data, data], seed=3, progress=lambda done, total: seen.append((done, total))
    )
    images = cast(LabelledImages, cast(ImageSubset, data.dataset).dataset)
    pictures: Any = images.pictures
    transform, pool = DEMO_PREPROCESSING.transform(), balanced(images.labels, 32)
    for trial in trials:
        if (trial.kind, trial.strength) not in {(kind, 2), (kind, 5)}:
            continue
        corrupted, labels = [], []
        for index in balanced(images.labels, 24):
            picture, label = pictures[index]
            others = [pictures[place][0] for place in pool if place != index]
            corrupted.append(transform(corrupt(picture, kind, trial.strength, (3, index), others)))
            labels.append(label)
        for model, outcomes in zip(models, trial.outcomes, strict=True):
            with torch.inference_mode():
                expected = model(torch.stack(corrupted)).argmax(1) == torch.tensor(labels)
            assert outcomes.tolist() == expected.double().tolist()
    assert [(trial.kind, trial.strength, trial.level) for trial in trials] == [
        (name, strength, LEVELS[name][strength - 1]) for name in CORRUPTION_KINDS for strength in STRENGTHS
    ]
    assert seen == [(24 * number, 960) for number in range(1, 41)]


def test_results_are_equal_for_the_same_seed_only() -> None:
    data, model = opened("demo-clutter", 16), load_demo()
    found = [run_trials(CLASSIFICATION, [model], [data], seed=seed) for seed in (0, 0, 1)]
    outcomes = [[trial.outcomes[0].tolist() for trial in trials] for trials in found]
    assert outcomes[0] == outcomes[1]
    assert outcomes[0] != outcomes[2]


def test_a_network_that_is_right_on_clean_images_is_wrong_on_corrupted_ones() -> None:
    data = opened("demo", 24)
    hard = [trial for trial in run_trials(CLASSIFICATION, [load_demo()], [data]) if trial.strength == 5]
    assert CLASSIFICATION.score(load_demo(), data).metric == 1.0
    assert min(trial.means[0] for trial in hard) < 0.9


def trials(first: Tensor, second: Tensor) -> list[Trial]:
    """Make trials with these outcomes (20, N)."""
    return [Trial(*name, (own, other)) for name, own, other in zip(TRIALS, first, second, strict=True)]


def test_the_gain_by_hand() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.rand(20, 60, generator=generator) < share for share in (0.8, 0.5))
    clean = torch.ones(60).bool(), second[2] & second[3]
    found = robust_gain(trials(first, second), clean, ComparedNames("a", None))
    ahead = first.double() - second.double()
    assert close(found.mean, ahead.mean(0))
    for number, kind in enumerate(CORRUPTION_KINDS):
        assert close(found.kinds[kind], ahead[5 * number : 5 * number + 5].mean(0))
    on_clean = clean[0].double() - clean[1].double()
    assert close(found.beyond_clean, ahead.mean(0) - on_clean, bound=2.0)
    assert found.verdict.startswith(
        "The evidence shows that a with its grafts scores higher than without them on corrupted"
    )
    assert found.verdict_beyond_clean.startswith(
        "The evidence shows that corrupted images cost a with its grafts more than without them (-"
    )
    shares = means(trials(first, second), 1)
    assert shares["blur"] == pytest.approx(float(second[5:10].double().mean()))
    assert shares["mean"] == pytest.approx(float(second.double().mean()))


def test_networks_that_do_the_same_show_nothing() -> None:
    right = torch.rand(20, 60) < 0.7
    found = robust_gain(trials(right, right), (right[0], right[0]), ComparedNames("a", "b"))
    assert "does not show whether a scores higher or lower than b on corrupted images" in found.verdict
    assert found.mean.low == -found.mean.high < -0.02


def close(found: Interval, differences: Tensor, bound: float = 1.0) -> bool:
    expected = image_interval(differences.tolist(), bound)
    return list(vars(found).values()) == pytest.approx(list(vars(expected).values()), abs=1e-12)


def test_networks_are_measured_on_the_same_corrupted_masks(tmp_path: Path) -> None:
    data = open_scenes(
        str(write(tmp_path, count=3, size=(40, 48))), "val", RGB, ("a", "b", "c"), TaskSettings(task="segmentation")
    )
    models, seen = [labeller(), labeller(grafts=False)], []
    torch.nn.init.normal_(models[1].head.bias)  # type: ignore[union-attr, arg-type]
    made = run_trials(
        SEGMENTATION, models, [data, data], seed=3, progress=lambda done, total: seen.append((done, total))
    )
    assert [(trial.kind, trial.strength) for trial in made] == TRIALS
    assert seen == [(number, 120) for number in range(1, 121)]
    corrupted = SEGMENTATION.corruptions(data, 3)
    for number in (4, 17):
        images = corrupted(made[number].kind, made[number].strength)
        assert isinstance(images.dataset, CorruptedScenes)
        for model, outcomes in zip(models, made[number].outcomes, strict=True):
            assert tuple(outcomes.tolist()) == SEGMENTATION.score(model, images).outcomes
    assert len({tuple(trial.outcomes[1].tolist()) for trial in made}) > 10
    clean = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0.5, 0.6, 0.4])
    found = describe_trials(SEGMENTATION, made, clean, ComparedNames("a", "b"))
    ahead = torch.stack([trial.outcomes[0] - trial.outcomes[1] for trial in made]).mean(0)
    assert found["gain"]["mean"] == pytest.approx(vars(image_interval(ahead.tolist())))
    beyond = (ahead - (clean[0] - clean[1])).tolist()
    assert found["gain"]["beyond_clean"] == pytest.approx(vars(image_interval(beyond, 2.0)))
    noise = [trial["compare_miou_by_image"] for trial in found["trials"][: len(STRENGTHS)]]
    assert found["compare_means"]["noise"] == pytest.approx(sum(noise) / len(STRENGTHS))
