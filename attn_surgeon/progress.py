"""How long jobs report their progress: one signature for counted work, one for named steps."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # (done, total)
StepProgress = Callable[[str], None]  # the name of the step that begins


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


def no_steps(step: str) -> None:
    """Report nothing."""
