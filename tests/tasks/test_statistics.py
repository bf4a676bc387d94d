"""Intervals and tests, against values computed by hand or taken from tables."""

from __future__ import annotations

import math

import pytest

from attn_surgeon.tasks.statistics import Interval, exact_interval, image_interval, mcnemar, t_interval, t_quantile


@pytest.mark.parametrize(("degrees", "table"), [(1, 12.7062), (2, 4.30265), (4, 2.77645), (9, 2.26216), (30, 2.04227)])
def test_quantiles_are_those_of_the_tables(degrees: int, table: float) -> None:
    assert t_quantile(degrees) == pytest.approx(table, rel=2e-6)


def test_the_interval_of_three_numbers() -> None:
    found = t_interval([1.0, 2.0, 3.0])  # mean 2, standard deviation 1
    reach = 4.30265 / math.sqrt(3)
    assert (found.estimate, found.low, found.high) == pytest.approx((2.0, 2 - reach, 2 + reach), rel=1e-5)


def test_the_same_difference_each_time_leaves_no_doubt() -> None:
    found = t_interval([0.5, 0.5])
    assert (found.low, found.high) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("ours", "theirs", "p"),
    [(0, 0, 1.0), (5, 5, 1.0), (0, 5, 2 / 2**5), (1, 9, 2 * (1 + 10) / 2**10), (9, 1, 2 * (1 + 10) / 2**10)],
)
def test_mcnemar_by_hand(ours: int, theirs: int, p: float) -> None:
    assert mcnemar(ours, theirs) == pytest.approx(p, rel=1e-9)


def test_mcnemar_of_many_images() -> None:
    exact = 2 * sum(math.comb(2000, k) for k in range(951)) / 2**2000
    assert mcnemar(950, 1050) == pytest.approx(exact, rel=1e-8)


def test_the_exact_interval_by_hand() -> None:
    # 8 of 10 discordant images: Clopper and Pearson give 0.4439 to 0.9748
    found = exact_interval(8, 2, 100)
    assert found.estimate == pytest.approx(0.06)
    assert found.low == pytest.approx(0.1 * (2 * 0.44390 - 1), abs=2e-6)
    assert found.high == pytest.approx(0.1 * (2 * 0.97479 - 1), abs=2e-6)


def test_one_sided_images_end_at_all_of_them() -> None:
    found = exact_interval(6, 0, 50)
    assert found.low == pytest.approx(6 / 50 * (2 * 0.025 ** (1 / 6) - 1), rel=1e-6)
    assert found.high == pytest.approx(6 / 50)


def test_interval_and_test_agree() -> None:
    for ours, theirs in ((12, 3), (11, 4), (10, 4), (9, 3), (30, 14), (30, 18)):
        assert (exact_interval(ours, theirs, 200).low > 0) == (mcnemar(ours, theirs) < 0.05)


def test_networks_that_never_differ_still_leave_doubt() -> None:
    found = exact_interval(0, 0, 100)
    assert found.estimate == 0
    assert found.high == -found.low == pytest.approx(1 - 0.025**0.01)


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
