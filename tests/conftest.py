"""Every test draws the same random numbers, whatever ran before it."""

from __future__ import annotations

import gc
import logging

import pytest
import torch

# pytest adds its handler to loggers that do not propagate; this one is always at DEBUG, and with a handler it composes
# records of every compilation: a fifth of its time, and thousands of lines in the report of a failure
logging.getLogger("torch.__trace").propagate = True
logging.getLogger("torch.__trace").handlers.clear()


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking over imported libraries and collected tests again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def same_draws() -> None:
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    """Run small networks on one thread; more would only wait for each other. A test may have set another number."""
    torch.set_num_threads(1)
