"""The networks of `examples/`, which is no package."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

REPO = Path(__file__).parents[2]
sys.path.append(str(REPO / "examples"))  # for examples of several files, which import each other


@cache
def example(name: str) -> ModuleType:
    """Import a file of `examples/` under a name that nothing else has."""
    spec = importlib.util.spec_from_file_location(f"{Path(name).name}_example", REPO / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
