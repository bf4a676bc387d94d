"""A part of the simulation: intervals that are wrong more often than they say fail here."""

from __future__ import annotations

import numpy as np
import pytest

from attn_surgeon.evaluate.paired_runs import welch_interval
from attn_surgeon.tasks.statistics import image_bounds

from . import boxes
from .draws import Setting
from .masks import SPREADS, miou_differences, scores_of_runs, true_miou_difference
from .rates import after, rates, rates_of_runs
from .tables import document

NO_NOISE = Setting("runs end alike, some images suit one network", images=0.3)
NOISE = Setting("by 3 points", noise=(3.0, 3.0))
SMALL = Setting("by half a point", noise=(0.5, 0.5))


@pytest.mark.parametrize(
    ("setting", "runs", "images"),
    [(NO_NOISE, 2, 50), (NO_NOISE, 2, 200), (NO_NOISE, 5, 100), (NOISE, 2, 200), (NOISE, 3, 100), (NOISE, 5, 200)],
)
def test_claims_without_an_effect_are_few(setting: Setting, runs: int, images: int) -> None:
    assert rates_of_runs(after, setting, runs, images, 1000).claims < 0.06


@pytest.mark.parametrize("name", SPREADS)
def test_claims_without_an_effect_are_few_for_other_scores(name: str) -> None:
    drawn = scores_of_runs(np.random.default_rng(0), SPREADS[name], 1000, 3, 50)
    assert rates([after(*drawn)], 0.0).claims < 0.06


@pytest.mark.parametrize(("runs", "images", "least"), [(2, 200, 0.2), (3, 200, 0.7), (5, 100, 0.8)])
def test_gains_of_five_points_are_found(runs: int, images: int, least: float) -> None:
    found = rates_of_runs(after, SMALL, runs, images, 1000, effect=0.05)
    assert found.claims > least
    assert found.cover > 0.93


@pytest.mark.parametrize(("first", "second"), [(0.05, 0.05), (0.1, 0.01), (0.05, 0.0)])
def test_the_interval_of_one_run_contains_the_truth(first: float, second: float) -> None:
    drawn = np.random.default_rng(0).random((2000, 100))
    differences = np.where(drawn < first, 1.0, np.where(drawn < first + second, -1.0, 0.0))
    assert rates([image_bounds(differences)], first - second).cover > 0.935


def test_the_interval_of_masks_contains_the_truth() -> None:
    generator = np.random.default_rng(0)
    truth = true_miou_difference(generator, 100_000)
    assert rates([image_bounds(miou_differences(generator, 300, 30))], truth).cover > 0.92


def test_two_rounded_accuracies_claim_little_though_nothing_is_known_of_their_images() -> None:
    first, second = np.round((0.9 + np.random.default_rng(0).normal(0, 0.01, (2, 500, 2))) * 100)
    found = [welch_interval(*pair) for pair in zip(first / 100, second / 100, strict=True)]
    assert sum(own.low > 0 or own.high < 0 for own in found) / len(found) < 0.06


def test_the_document_has_a_row_for_each_setting() -> None:
    text = document(2)
    assert text.count("| by 3 points |") == 3
    assert "The most of any cell" in text


def test_the_bootstrap_of_average_precision_rarely_claims_a_difference(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert boxes.false_claims(12, 20) <= 0.2
    monkeypatch.setattr(boxes, "IMAGES", (10,))
    boxes.main(["1"])
    assert capsys.readouterr().out.startswith("10 images: ")
