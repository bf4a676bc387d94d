"""Timing by turns, against what the work itself says it took."""

from __future__ import annotations

from functools import partial

from attn_surgeon.measure.latency import WARM, Latency, by_turns, summarise


def test_works_take_turns_and_the_first_rounds_are_not_counted() -> None:
    calls: list[str] = []

    def work(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = by_turns([partial(work, name) for name in "abc"], 2, again=False)
    assert "".join(calls) == "abc" * (WARM + 2)
    first = 3 * WARM + 1
    assert found == [[first, first + 3], [first + 1, first + 4], [first + 2, first + 5]]


def test_the_second_time_counts() -> None:
    calls: list[str] = []

    def work(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = by_turns([partial(work, name) for name in "ab"], 1)
    assert "".join(calls) == "aabb" * (WARM + 1)
    assert found == [[4 * WARM + 2], [4 * WARM + 4]]


def test_median_and_the_distance_of_the_quartiles() -> None:
    assert summarise([5.0, 1.0, 2.0, 100.0, 4.0]) == Latency(4.0, 3.0)
