"""Convert the return value of a user's evaluation to metrics by name."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from attn_surgeon.errors import TrainingError

SCORE = "score"  # the name of a metric that was returned without one
Values = dict[str, tuple[float, ...]]


def metric_values(returned: object, *, finite: bool = True) -> Values:
    """Return each metric's values: of single images where those were returned, else the one number.

    Raises:
        TrainingError: there is no metric, or one that is not a number; with `finite`, not a finite one.

    >>> metric_values(0.5), metric_values({"mAP": 0.25, "correct": [1, 0]})
    ({'score': (0.5,)}, {'mAP': (0.25,), 'correct': (1.0, 0.0)})
    """
    named = returned if isinstance(returned, Mapping) else {SCORE: returned}
    if not named:
        raise TrainingError("evaluate returned no metric", "evaluate", 'return a number, or {"mAP": number}')
    return {str(name): _numbers(str(name), value, finite=finite) for name, value in named.items()}


def _numbers(name: str, value: Any, *, finite: bool) -> tuple[float, ...]:
    try:
        plain = value.tolist() if hasattr(value, "tolist") else value  # tensors and arrays
        several = isinstance(plain, Iterable) and not isinstance(plain, str)
        numbers = tuple(map(float, plain)) if several else (float(plain),)
    except (TypeError, ValueError):
        what = f"{name} is {type(value).__name__}, not a number"
        raise TrainingError(what, "evaluate", "return numbers by name") from None
    if not numbers:
        raise TrainingError(f"{name} has no values", "evaluate")
    if finite and not all(map(math.isfinite, numbers)):
        raise TrainingError(f"{name} is not finite: the training may have diverged", "evaluate")
    if several and any(not 0 <= number <= 1 for number in numbers if math.isfinite(number)):
        what = f"{name} has values of single images that are not from 0 to 1"
        raise TrainingError(what, "evaluate", "return their mean instead")
    return numbers
