"""The bootstrap over images: as wide as Student's interval for a mean, paired, and combined with training runs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from attn_surgeon.evaluate.paired_runs import describe_runs, score_interval, values_interval
from attn_surgeon.tasks.base import Score
from attn_surgeon.tasks.bootstrap import bootstrap_interval, drawn_images
from attn_surgeon.tasks.statistics import Floats, t_quantile


def mean_score(values: Sequence[float]) -> Score:
    """Return a score whose metric is a mean, which needs no bootstrap but shows what it does."""
    each = np.array(values)

    def resampled(counts: Floats) -> Floats:
        found: Floats = counts @ each / counts.sum(1)
        return found

    return Score(float(each.mean()), 0.0, tuple(values), resampled=resampled)


@pytest.mark.parametrize("images", [8, 40])
def test_the_interval_of_a_mean_is_students(images: int) -> None:
    values = np.random.default_rng(3).normal(0.5, 0.1, images)
    resampled = mean_score(values.tolist()).resampled
    assert resampled is not None
    found = bootstrap_interval(float(values.mean()), resampled(drawn_images(images)), images)
    margin = float(t_quantile(images - 1)) * float(values.std(ddof=1)) / images**0.5
    assert (found.low, found.high) == pytest.approx((values.mean() - margin, values.mean() + margin), abs=0.3 * margin)
    assert found.high - found.low == pytest.approx(2 * margin, rel=0.15)


def test_resamples_are_the_same_each_time_and_draw_every_image_as_often() -> None:
    counts = drawn_images(50)
    assert counts.tolist() == drawn_images(50).tolist()
    assert set(counts.sum(1)) == {50}
    assert counts.mean(0) == pytest.approx(np.ones(50), abs=0.15)


def test_a_difference_is_paired_by_image() -> None:
    hard = np.random.default_rng(4).uniform(0, 1, 60)
    better = mean_score(np.clip(hard + 0.02, 0, 2).tolist())
    found = score_interval([better], [mean_score(hard.tolist())])
    assert (found.estimate, found.low, found.high) == pytest.approx((0.02, 0.02, 0.02))


def test_equal_networks_show_nothing() -> None:
    one = mean_score([0.1, 0.9, 0.4])
    found = score_interval([one], [one])
    assert (found.estimate, found.low, found.high) == (0, -1, 1)


@pytest.mark.parametrize(("by_image", "by_both", "by_run"), [(0.1, 0.1, 0.03), (0.1, 0.3, 0.02), (0.02, 0.05, 0.05)])
def test_several_runs_have_the_interval_of_means_over_images_and_runs(
    by_image: float, by_both: float, by_run: float
) -> None:
    dice, runs, images = np.random.default_rng(5), 5, 80
    ours, theirs = (
        [
            (0.5 + shift + own + dice.normal(0, by_both, images) + dice.normal(0, by_run)).tolist()
            for own in [dice.normal(0, by_image, images)]
            for _ in range(runs)
        ]
        for shift in (0.05, 0.0)
    )
    found = score_interval([mean_score(own) for own in ours], [mean_score(own) for own in theirs])
    expected = values_interval(ours, theirs)
    assert found.estimate == pytest.approx(expected.estimate)
    assert found.high - found.low == pytest.approx(expected.high - expected.low, rel=0.08)


def test_a_value_that_is_always_zero_may_be_anything_within_its_limits() -> None:
    found = bootstrap_interval(0.0, np.zeros(100), 20, limits=(0.0, 1.0))
    assert (found.low, found.high) == (0.0, 1.0)


def test_the_text_names_the_bootstrap() -> None:
    assert describe_runs(3, 1000, bootstrap=True) == "3 training runs of each, 1,000 images, by bootstrap"
