"""Some cases of every kind, the same each time; `python -m tests.fuzz` runs as many as it is told."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import strategies as st

from attn_surgeon.errors import DataError
from tests.fuzz.kinds import FuzzKind, kinds
from tests.fuzz.run import run_cases


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", kinds())
def test_no_case_is_a_fault(name: str) -> None:
    kind = kinds()[name]
    tally = run_cases(kind, kind.often)
    assert tally.faults == {}
    assert tally.cases >= kind.often // 2  # fewer only where there are not so many


def _misbehave(what: str) -> None:
    if what == "raises":
        raise KeyError(what)
    if what == "long":
        raise _Long
    if what == "slow":
        while time.process_time():
            pass
    if what == "code":
        import surgeon_canary  # type: ignore[import-not-found]  # noqa: F401
    if what == "refused":
        raise DataError(what)


class _Long(DataError):  # noqa: N818
    def __init__(self) -> None:
        super().__init__("x")

    def __str__(self) -> str:
        return "x" * 301


def test_every_kind_of_fault_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    (tmp_path / "surgeon_canary.py").touch()
    whats = st.sampled_from(["raises", "long", "slow", "code", "fine", "refused"])
    tally = run_cases(FuzzKind(lambda: whats, _misbehave, longest=0.1, minimised=False), 100)
    found = sorted(text.partition(":")[0] for text in tally.faults.values())
    assert found == ["KeyError", "_TooLong", "a message of 301 characters", "code was run"]
    assert tally.refused >= 1
    assert tally.accepted >= 1
