"""Run cases of a kind to their end, over every fault."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import FlakyFailure
from hypothesis.strategies import SearchStrategy

from tests.fuzz.judge import CANARY, FaultError, Tally, judge
from tests.fuzz.kinds import FuzzKind

_MOST_FAULTS = 30
_CODE = "def run(*a, **k):\n    raise SystemError('the canary ran')\n"


@contextmanager
def _folder() -> Iterator[None]:
    """Change to a new folder with the canary in it."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        Path(f"{CANARY}.py").write_text(_CODE)
        try:
            yield
        finally:
            os.chdir(before)


def run_cases(kind: FuzzKind, cases: int, first_seed: int = 0) -> Tally:
    """Run so many cases; each fault is minimised once, and its like is only counted from then on."""
    tally = Tally()
    with _folder(), warnings.catch_warnings(action="ignore"), torch.random.fork_rng(devices=[]):
        strategy = kind.draws()
        while tally.cases < cases and len(tally.faults) < _MOST_FAULTS:
            error = _first_fault(kind, strategy, cases - tally.cases, first_seed + len(tally.faults), tally)
            if error is None:
                break
            tally.faults[error.signature] = f"{error}: {error.__notes__[0] if hasattr(error, '__notes__') else ''}"
    return tally


def _first_fault(
    kind: FuzzKind, strategy: SearchStrategy[Any], cases: int, number: int, tally: Tally
) -> FaultError | None:
    @seed(number)
    @settings(
        max_examples=cases,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink) if kind.minimised else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def each(case: object) -> None:
        try:
            judge(lambda: kind.read(case), tally, kind.longest)
        except FaultError as error:
            if error.signature not in tally.faults:
                error.add_note(f"{case!r}"[:400])
                raise

    try:
        each()
    except FaultError as error:
        return error
    except FlakyFailure as group:  # it did not come again, but it did come
        return next((error for error in group.exceptions if isinstance(error, FaultError)), None)
    return None
