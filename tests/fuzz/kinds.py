"""The kinds of cases: what is drawn, and the function of the package that reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis.strategies import SearchStrategy

from tests.fuzz.judge import LONGEST


@dataclass(frozen=True)
class FuzzKind:
    """Cases of one kind.

    Args:
        draws: returns the strategy, once the folder that it may prepare is the current one.
        read: runs one case in the current folder.
        often: how many cases the ordinary tests run.
        longest: the most seconds of CPU that a case may take.
        minimised: whether to look for the smallest case of a fault.
    """

    draws: Callable[[], SearchStrategy[Any]]
    read: Callable[[Any], object]
    often: int = 300
    longest: float = LONGEST
    minimised: bool = True


@cache
def kinds() -> dict[str, FuzzKind]:
    """Return the kinds by name."""
    from tests.fuzz import read_artefacts, read_boxes, read_data, read_requests, read_text, read_weights, surgery

    modules = (read_text, read_artefacts, read_weights, read_requests, read_data, read_boxes, surgery)
    return {name: kind for module in modules for name, kind in module.KINDS.items()}
