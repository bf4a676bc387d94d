"""Signatures of progress callbacks: for counted work, for named steps, and for counted work in named phases."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[int, int], None]  # called with (done, total)
StepProgress = Callable[[str], None]  # called with the name of each step before it starts
PhaseProgress = Callable[[str, int, int], None]  # called with (name of the phase, done, total)


def no_progress(done: int, total: int) -> None:
    """Report nothing."""


def no_steps(step: str) -> None:
    """Report nothing."""


def no_phases(phase: str, done: int, total: int) -> None:
    """Report nothing."""


def of_jobs(progress: Progress, number: int, jobs: int) -> Progress:
    """Return a callback for job `number` of several of equal size that reports the progress over all of them.

    >>> of_jobs(lambda done, total: print(done, "of", total), 1, 3)(5, 10)
    15 of 30
    """
    return lambda done, total: progress(number * total + done, jobs * total)
