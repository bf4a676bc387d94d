"""Part a sweep: some of its cases in every run, the others among the slow tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest


def in_turns(cases: Sequence[Any], every: int) -> list[Any]:
    """Return values for `pytest.mark.parametrize` of which each `every`-th is an ordinary test, the others are slow."""
    return [case if i % every == 0 else pytest.param(case, marks=pytest.mark.slow) for i, case in enumerate(cases)]
