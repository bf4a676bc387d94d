"""Run a test over many values within one item, where an item for each would cost more than the test itself."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import pytest
import torch

Test = Callable[..., None]
Axis = tuple[tuple[str, ...], tuple[Any, ...]]


def each(names: str | tuple[str, ...], values: Iterable[Any]) -> Callable[[Test], Test]:
    """Parametrize a test as `pytest.mark.parametrize` does, but within one item.

    All combinations run, each with the random numbers that an item of its own would draw. The failures are raised
    together, and the message names their combinations.

        @each("dtype", [torch.float32, torch.float16])
        @each(("layout", "shape"), [("NC", (3, 8)), ("NCL", (2, 8, 11))])
        def test_block(dtype, layout, shape): ...
    """

    def decorate(test: Test) -> Test:
        plain, axes = getattr(test, "_each", (test, ()))
        axis: Axis = (
            ((names,), tuple((value,) for value in values)) if isinstance(names, str) else (names, tuple(values))
        )
        return _looped(plain, (axis, *axes))

    return decorate


def _looped(test: Test, axes: tuple[Axis, ...]) -> Test:
    names = [name for axis, _ in axes for name in axis]

    @wraps(test)
    def looped(**fixtures: Any) -> None:
        failures = []
        cases = list(itertools.product(*(values for _, values in axes)))
        for case in cases:
            given = dict(zip(names, itertools.chain(*case), strict=True))
            torch.manual_seed(0)
            try:
                test(**fixtures, **given)
            except (Exception, pytest.fail.Exception) as error:
                text = ", ".join(f"{name}={value}" for name, value in given.items())
                error.add_note(f"with {text}")
                failures.append((text, error))
        if failures:
            texts = "; ".join(text for text, _ in failures)
            message = f"{len(failures)} of {len(cases)} cases failed: {texts}"
            raise BaseExceptionGroup(message, [error for _, error in failures])

    signature = inspect.signature(test)
    kept = [parameter for name, parameter in signature.parameters.items() if name not in names]
    looped.__signature__ = signature.replace(parameters=kept)  # type: ignore[attr-defined]
    looped._each = test, axes  # type: ignore[attr-defined]
    return looped
