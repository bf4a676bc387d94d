"""Every test draws the same random numbers, whatever ran before it."""

from __future__ import annotations

import logging

import pytest
import torch

# pytest hands records of loggers that do not propagate to its own handler, and torch composes traces of every
# compilation and export, at several times their cost, as soon as this logger has one
logging.getLogger("torch.__trace").propagate = True
logging.getLogger("torch.__trace").handlers.clear()


@pytest.fixture(autouse=True)
def same_draws() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Run small networks on one thread; more would only wait for each other."""
    torch.set_num_threads(1)
