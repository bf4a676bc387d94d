"""Intervals over training runs and images, by hand, and what no luck with the runs may prove."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_ind

from attn_surgeon.evaluate.paired_runs import grafts_verdict, runs_reach, score_interval, welch_interval
from attn_surgeon.tasks.base import Score
from attn_surgeon.tasks.statistics import Interval, t_quantile


def scores(*runs: list[int]) -> list[Score]:
    return [Score(sum(own) / len(own), 0.1, tuple(map(float, own))) for own in runs]


def test_two_equal_differences_prove_nothing() -> None:
    rng = np.random.default_rng(0)
    first = rng.random((2, 100)) < 0.9
    second = first.copy()
    for run, others in enumerate(((3, 17), (40, 8))):  # each control is wrong on two images of its own
        first[run, others], second[run, others] = True, False
    found = score_interval(*(scores(*own.astype(int).tolist()) for own in (first, second)))
    assert found.estimate == pytest.approx(0.02)
    assert found.low < 0 < found.high


def test_the_interval_by_hand() -> None:
    # right answers of two networks in two runs on four images
    first, second = [[1, 1, 1, 0], [1, 1, 0, 0]], [[1, 0, 0, 0], [0, 0, 0, 0]]
    over_runs = (0.25**2 / 2 + 0.25**2 / 2) / 2  # run means 0.75, 0.5 and 0.25, 0
    by_image = np.array([0.5, 1.0, 0.5, 0.0])
    size = math.sqrt((0.25 + 1 + 0.25) / 3)
    over_images = (1.5 + 2 * size**2 - 2.0**2 / 6) / 5 / 6
    left = np.array([[0, 1, 1, 0], [1, 1, 0, 0]]) - by_image  # both runs differ by 0.5
    both = np.square(left).sum() / 3 / 8
    degrees = 2.0  # equal variances
    z, t = float(t_quantile(5)), float(t_quantile(degrees))
    reach = max(z * math.sqrt(over_images), math.sqrt(t**2 * over_runs + z**2 * max(0, over_images - both)))
    mean, found = runs_reach(np.array(first, dtype=float), np.array(second, dtype=float))
    assert (mean, found) == pytest.approx((0.5, reach))


def test_one_run_has_the_interval_over_images() -> None:
    found = score_interval(scores([1, 1, 1, 1, 0, 1, 1, 1]), scores([1, 0, 1, 1, 0, 1, 0, 1]))
    assert found.estimate == 0.25
    assert found.low < 0 < found.high


def test_networks_that_never_differ_have_an_interval() -> None:
    same = scores([1, 0, 1, 1], [1, 0, 1, 1])
    found = score_interval(same, same)
    assert found.estimate == 0
    assert found.high == -found.low > 0.2


def test_runs_that_end_far_apart_widen_the_interval() -> None:
    steady = score_interval(
        scores([1] * 90 + [0] * 10, [1] * 90 + [0] * 10), scores([1] * 80 + [0] * 20, [1] * 80 + [0] * 20)
    )
    apart = score_interval(
        scores([1] * 99 + [0], [1] * 81 + [0] * 19), scores([1] * 80 + [0] * 20, [1] * 80 + [0] * 20)
    )
    assert steady.low > 0 > apart.low
    assert steady.estimate == pytest.approx(apart.estimate)


def test_welch_interval_equals_scipys() -> None:
    first, second = [0.91, 0.93, 0.9], [0.88, 0.92, 0.85]
    expected = ttest_ind(first, second, equal_var=False).confidence_interval()
    found = welch_interval(first, second)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-6)
    assert found.estimate == pytest.approx((0.91 + 0.93 + 0.9 - 0.88 - 0.92 - 0.85) / 3)


@pytest.mark.parametrize("values", [[0.5, 0.5], [0.91 - 0.9, 0.81 - 0.8], [0.02] * 5, [0.0, 0.0]])
def test_welch_interval_of_equal_values_has_no_ends(values: list[float]) -> None:
    found = welch_interval(values, [0.0] * len(values))
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert found.estimate == pytest.approx(values[0])


@pytest.mark.parametrize(
    ("interval", "conclusion"),
    [
        (Interval(0.01, 0.002, 0.018), "shows that training with the grafts scores higher than"),
        (Interval(-0.01, -0.018, -0.002), "shows that training with the grafts scores lower than"),
        (Interval(0.01, -0.001, 0.021), "does not show whether training with the grafts scores higher or lower than"),
        (Interval(0.0, 0.0, 0.0), "does not show whether training with the grafts scores higher or lower than"),
    ],
)
def test_verdict_follows_the_interval(interval: Interval, conclusion: str) -> None:
    assert conclusion in grafts_verdict(interval, 3)
    assert grafts_verdict(interval, 3).endswith("; 3 training runs of each).")


def test_verdict_on_one_training_run_claims_no_cause() -> None:
    text = grafts_verdict(Interval(0.01, 0.002, 0.018), 1, 60)
    assert text.startswith(
        "The evidence shows that this network with grafts scores higher than this control on images like these"
        " (+1.00 points, 95 % interval +0.20 to +1.80; 60 images). "
    )
    assert "does not show how much of that is due to the grafts" in text


def test_verdict_on_one_number_of_each_is_the_difference() -> None:
    text = grafts_verdict(Interval(0.5, -math.inf, math.inf), 1)
    assert text.startswith("The difference is +0.5000. One training run of each does not show")
