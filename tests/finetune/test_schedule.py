"""The learning rate over the steps of a run."""

from __future__ import annotations

import math

import pytest

from attn_surgeon.finetune.schedule import Schedule
from attn_surgeon.finetune.settings import SCHEDULES, FinetuneSettings


def factors(name: str, warmup: float = 0.1, steps: int = 20) -> list[float]:
    schedule = Schedule(FinetuneSettings(schedule=name, warmup=warmup), steps)
    return [schedule(step) for step in range(steps)]


def test_cosine_rises_then_falls_as_half_a_wave() -> None:
    expected = [1 / 3, 2 / 3, *(0.5 * (1 + math.cos(math.pi * step / 18)) for step in range(18))]
    assert factors("cosine") == pytest.approx(expected)


def test_poly_falls_as_a_line_and_constant_stays() -> None:
    assert factors("poly", 0.0, 4) == pytest.approx([1, 0.75, 0.5, 0.25])
    assert factors("constant", 0.0, 4) == pytest.approx([1, 1, 1, 1])


def test_step_loses_nine_tenths_at_each_third() -> None:
    assert factors("step", 0.0, 9) == pytest.approx([1, 1, 1, 0.1, 0.1, 0.1, 0.01, 0.01, 0.01])


@pytest.mark.parametrize("name", SCHEDULES)
def test_results_do_not_depend_on_the_order_of_queries(name: str) -> None:
    schedule, straight = Schedule(FinetuneSettings(schedule=name), 20), factors(name)
    assert [schedule(step) for step in (15, 3, 0, 19)] == [straight[step] for step in (15, 3, 0, 19)]


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_the_shortest_runs_train_too(name: str, steps: int) -> None:
    assert all(0 < factor <= 1 for factor in factors(name, 0.1, steps))
