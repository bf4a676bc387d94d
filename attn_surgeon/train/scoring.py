"""Measure a network that is being trained, exactly as `evaluate` will measure its artefact."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

from attn_surgeon.train.evaluate import Evaluation, Progress, evaluate, ranks
from attn_surgeon.train.parts import Parts

BATCH = 256


def score(
    model: nn.Module, parts: Parts, *, device: Any = "cpu", progress: Progress | None = None
) -> tuple[Evaluation, tuple[bool, ...]]:
    """Measure a network on the validation images, and say which of them it got right."""
    right: list[bool] = []
    with _in_full_precision(model):
        evaluation = evaluate(
            model,
            parts.val,
            batch_size=BATCH,
            device=device,
            progress=progress,
            watch=lambda logits, labels: right.extend((ranks(logits, labels) < 1).tolist()),
        )
    return evaluation, tuple(right)


@contextmanager
def _in_full_precision(model: nn.Module) -> Iterator[None]:
    """Take off Accelerate's cast for a while, so that a network scores what its artefact will."""
    cast_forward = vars(model).pop("forward", None)
    try:
        yield
    finally:
        if cast_forward is not None:
            vars(model)["forward"] = cast_forward
