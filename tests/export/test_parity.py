"""How far outputs are apart."""

from __future__ import annotations

import math

import numpy as np
import pytest

from attn_surgeon.export.parity import OutputDifference, Parity, ParityError, difference

ONE = np.array([[1.0, 2.0, -4.0], [0.0, 3.0, 1.0]], dtype=np.float32)


def test_the_largest_difference_counts_and_is_held_against_the_largest_value() -> None:
    other = ONE + np.array([[0, 0.5, 0], [0, 0, -0.25]], dtype=np.float32)
    assert difference("x", [other], [ONE]) == OutputDifference("x", 0.5, 0.125, 1.0)


def test_the_worst_of_several_outputs_counts() -> None:
    small = np.array([0.01], dtype=np.float32)
    found = difference("x", [ONE, small * 2], [ONE, small])
    assert found.absolute == pytest.approx(0.01, rel=1e-6)
    assert found.relative == pytest.approx(1.0, rel=1e-6)


def test_classes_are_compared_where_there_are_any() -> None:
    other = ONE * np.array([[1], [-1]], dtype=np.float32)
    assert difference("x", [other], [ONE]).agreement == 0.5
    assert difference("x", [ONE[0]], [ONE[0]]).agreement is None


def test_what_is_no_number_agrees_only_with_itself() -> None:
    hole, peak = np.array([[np.nan, 1.0]]), np.array([[np.inf, 1.0]])
    assert difference("x", [hole], [hole]).relative == 0
    assert difference("x", [peak], [peak]).relative == 0
    for one, other in ((hole, np.ones((1, 2))), (np.ones((1, 2)), hole), (peak, np.ones((1, 2)))):
        assert not difference("x", [one], [other]).within(1e9)


def test_outputs_without_a_value_are_reported() -> None:
    nothing = np.zeros((1, 3))
    assert difference("x", [nothing], [nothing]).silent
    assert not difference("x", [nothing, ONE], [nothing, ONE]).silent
    told, silent = difference("x", [ONE], [ONE]), difference("y", [nothing], [nothing])
    assert Parity("PyTorch", 1, (silent, silent)).silent
    assert not Parity("PyTorch", 1, (told, silent)).silent


def test_another_shape_or_number_of_outputs_is_no_agreement() -> None:
    assert difference("x", [ONE[:1]], [ONE]).relative == math.inf
    with pytest.raises(ValueError, match=r"shorter|longer"):
        difference("x", [ONE], [ONE, ONE])


def test_the_error_names_the_worst_size() -> None:
    differences = (
        OutputDifference("1×8×8", 1, 0.1, 1),
        OutputDifference("3×8×8", math.nan, math.nan, 1),
        OutputDifference("x", 2, 0.2, 1),
    )
    parity = Parity("PyTorch", 0.15, differences)
    assert not parity.passed
    assert "at 3×8×8" in str(ParityError(parity, "net.onnx"))
    assert Parity("PyTorch", 0.15, differences[:1]).passed
