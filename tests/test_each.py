"""A test looped over values runs every combination, and says which of them failed."""

from __future__ import annotations

import inspect

import pytest
import torch

from .each import each


def test_every_combination_runs_with_the_random_numbers_of_a_separate_item() -> None:
    seen = []

    @each("name", ["a", "b"])
    @each(("layout", "size"), [("NC", 1), ("NCL", 2)])
    def looped(folder: str, name: str, layout: str, size: int) -> None:
        seen.append((folder, name, layout, size, torch.rand(()).item()))

    assert list(inspect.signature(looped).parameters) == ["folder"]
    looped(folder="f")
    torch.manual_seed(0)
    first = torch.rand(()).item()
    assert seen == [("f", name, *rest, first) for name in "ab" for rest in (("NC", 1), ("NCL", 2))]


def test_failures_are_raised_together_and_name_their_combinations() -> None:
    @each("size", [1, 2, 3])
    @each("layout", ["NC"])
    def looped(size: int, layout: str) -> None:
        if size == 3:
            with pytest.raises(ValueError, match="no"):
                pass
        assert size == 1

    with pytest.raises(
        BaseExceptionGroup, match=r"2 of 3 cases failed: size=2, layout=NC; size=3, layout=NC"
    ) as raised:
        looped()
    assert raised.value.exceptions[0].__notes__ == ["with size=2, layout=NC"]
    assert [type(error) for error in raised.value.exceptions] == [AssertionError, pytest.fail.Exception]
