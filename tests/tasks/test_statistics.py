"""Intervals and tests, against values computed by hand or taken from tables."""

from __future__ import annotations

import math

import pytest
from scipy.stats import ttest_1samp

from attn_surgeon.tasks.statistics import Interval, image_interval, mcnemar, t_quantile


@pytest.mark.parametrize(("degrees", "table"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (9, 2.26216), (30, 2.04227)])
def test_quantiles_are_those_of_the_tables(degrees: int, table: float) -> None:
    assert t_quantile(degrees) == pytest.approx(table, rel=2e-6)


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 2 / 2**5), (1, 9, 2 * (1 + 10) / 2**10), (9, 1, 2 * (1 + 10) / 2**10)],
)
def test_mcnemar_by_hand(ours: int, theirs: int, p: float) -> None:
    assert mcnemar(ours, theirs) == pytest.approx(p, rel=1e-9)


def test_mcnemar_of_many_images() -> None:
    exact = 2 * sum(math.comb(2000, k) for k in range(951)) / 2**2000
    assert mcnemar(950, 1050) == pytest.approx(exact, rel=1e-8)


def test_networks_that_never_differ_still_leave_doubt() -> None:
    found = image_interval([0.0] * 100)
    assert found.estimate == 0
    assert found.high == -found.low == pytest.approx(t_quantile(101) * math.sqrt(2 / 101 / 102))


def test_differences_of_any_size_have_two_images_more_of_the_largest() -> None:
    few = [0.2, 0.1, -0.1, 0.0, 0.05, 0.0]
    expected = ttest_1samp([*few, 0.2, -0.2], 0).confidence_interval()
    found = image_interval(few)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert found.estimate == pytest.approx(sum(few) / 6)


@pytest.mark.parametrize(("ours", "theirs", "images"), [(9, 6, 1078), (6, 0, 1000), (0, 0, 200), (40, 22, 150)])
def test_the_interval_over_images_is_that_of_bonett_and_price(ours: int, theirs: int, images: int) -> None:
    first, second, count = (ours + 1) / (images + 2), (theirs + 1) / (images + 2), images + 2
    spread = math.sqrt((first + second - (first - second) ** 2) / (count - 1))  # Student's, where theirs is the normal
    found = image_interval([1.0] * ours + [-1.0] * theirs + [0.0] * (images - ours - theirs))
    assert found.estimate == pytest.approx((ours - theirs) / images)
    assert (found.low, found.high) == pytest.approx(
        (first - second - t_quantile(count - 1) * spread, first - second + t_quantile(count - 1) * spread), rel=1e-9
    )


def test_the_interval_over_images_ends_where_differences_do() -> None:
    assert image_interval([1.0]) == Interval(1.0, -1.0, 1.0)
    assert image_interval([2.0, 2.0], bound=2.0).high == 2.0


def test_a_few_images_prove_nothing() -> None:
    for count, shown in ((5, False), (6, True)):  # as McNemar's test has it: p is 0.0625 and 0.03125
        assert (image_interval([1.0] * count + [0.0] * 994).low > 0) is shown
        assert (mcnemar(count, 0) < 0.05) is shown
