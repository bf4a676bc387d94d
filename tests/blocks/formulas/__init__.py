"""The papers' formulas, written a second time in float64 NumPy: a file for each family of blocks."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from .case import Case, Count

_FAMILIES = [import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)]
CASES: list[Case] = [case for family in _FAMILIES for case in getattr(family, "CASES", ())]
COUNTS: list[Count] = [count for family in _FAMILIES for count in getattr(family, "COUNTS", ())]
