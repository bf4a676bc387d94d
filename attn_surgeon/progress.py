"""How long jobs report their progress: one signature for counted work, one for named steps."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # (done, total)
StepProgress = Callable[[str], None]  # the name of the step that begins


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


def no_steps(step: str) -> None:
    """Report nothing."""


def of_jobs(progress: Progress, number: int, jobs: int) -> Progress:
    """Return the progress of one of several jobs of equal size, which are counted together.

    >>> of_jobs(lambda done, total: print(done, "of", total), 1, 3)(5, 10)
    15 of 30
    """
    return lambda done, total: progress(number * total + done, jobs * total)
