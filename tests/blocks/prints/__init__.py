"""Modules as articles and repositories print them, rewritten plainly: a file for each family of blocks."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from .case import Print

_FAMILIES = [
    import_module(f"{__name__}.{found.name}")
    for found in pkgutil.iter_modules(__path__)
    if found.name not in ("case", "__main__")
]
PRINTS: list[Print] = [each for family in _FAMILIES for each in getattr(family, "PRINTS", ())]
