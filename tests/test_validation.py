"""Plain data against types: what is wrong is told by its place, in one line that is never long."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from attn_surgeon.errors import DataError
from attn_surgeon.validation import validated


@dataclass(frozen=True)
class Part:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Whole:
    part: Part
    rate: float = 0.5
    flag: bool = False
    other: Part | None = None
    free: Mapping[str, Any] = field(default_factory=dict)


def fault(data: object, where: str | None = "here") -> DataError:
    with pytest.raises(DataError) as caught:
        validated(Whole, data, DataError, where)
    assert "\n" not in str(caught.value)
    assert len(caught.value.what) <= 300
    return caught.value


def test_plain_data_becomes_an_instance() -> None:
    data = {"part": {"name": "x", "sizes": [1, 2]}, "rate": 2, "free": {"a": [1]}}
    assert validated(Whole, data, DataError, "") == Whole(Part("x", (1, 2)), 2.0, free={"a": [1]})


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"rate": "0.5"}, "rate must be a number, got '0.5'"),
        ({"rate": True}, "rate must be a number, got True"),
        ({"flag": 1}, "flag must be true or false, got 1"),
        ({"part": {"name": 3}}, "part.name must be a string, got 3"),
        ({"part": {"name": "x", "sizes": [1.5]}}, "part.sizes.0 must be a whole number, got 1.5"),
        ({"part": {"name": "x", "sizes": "12"}}, "part.sizes must be a list, got '12'"),
        ({"part": None}, "part must be a table, got None"),
        ({"rat": 1}, "rat is unknown, did you mean rate, part?"),
        ({"part": {"nam": "x"}}, "part.name is missing; part.nam is unknown, did you mean name?"),
        ({"free": {"x": object()}}, "this is no plain data: Object of type object is not JSON serializable"),
    ],
)
def test_a_fault_is_reported_with_its_place(change: dict[str, Any], what: str) -> None:
    error = fault({"part": {"name": "x"}} | change)
    assert (error.what, error.where) == (what, "here")


def test_an_options_fault_names_the_option() -> None:
    assert fault({"part": {"name": "x"}, "rate": "fast"}, None).option == "rate"


def test_long_values_and_many_faults_stay_short() -> None:
    many = {"part": {"name": "x", "sizes": ["y" * 1000] * 100}, "n" * 1000: 1}
    assert fault(many).what.endswith("more")
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    fault({"free": {"x": deep}})
