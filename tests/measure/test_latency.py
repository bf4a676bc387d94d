"""Timing by turns, against what the work itself says it took."""

from __future__ import annotations

from functools import partial

from attn_surgeon.measure.latency import WARM_UP, Latency, summarise, time_interleaved


def test_works_take_turns_and_the_first_rounds_are_not_counted() -> None:
    calls: list[str] = []

    def work(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = time_interleaved([partial(work, name) for name in "abc"], 2, twice=False)
    assert "".join(calls) == "abc" * (WARM_UP + 2)
    first = 3 * WARM_UP + 1
    assert found == [[first, first + 3], [first + 1, first + 4], [first + 2, first + 5]]


def test_the_second_time_counts() -> None:
    calls: list[str] = []

    def work(name: str) -> float:
        calls.append(name)
        return float(len(calls))

    found = time_interleaved([partial(work, name) for name in "ab"], 1)
    assert "".join(calls) == "aabb" * (WARM_UP + 1)
    assert found == [[4 * WARM_UP + 2], [4 * WARM_UP + 4]]


def test_median_and_quartiles() -> None:
    found = summarise([5.0, 1.0, 2.0, 100.0, 4.0])
    assert (found, found.spread) == (Latency(4.0, 2.0, 5.0), 3.0)
