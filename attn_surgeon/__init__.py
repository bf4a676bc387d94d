"""Insert attention blocks into pretrained vision networks, exactly the identity at first, and verify that they are.

The public names are those that `__init__.pyi` imports. Each is imported when it is first used, so that
`attn-surgeon --help` does not import torch.
"""

from __future__ import annotations

import ast
import pkgutil
from importlib import import_module
from typing import Any

__version__ = "0.2.0"


def _read_public_names() -> dict[str, str]:
    """Return the module of every public name, read from the stub file."""
    stub = pkgutil.get_data(__name__, "__init__.pyi") or b""
    imports = [node for node in ast.parse(stub).body if isinstance(node, ast.ImportFrom)]
    return {name.name: node.module for node in imports for name in node.names if node.module}


_MODULES = _read_public_names()
__all__ = sorted(_MODULES)  # noqa: PLE0605 - read from the stub, so that the names are listed once


def __dir__() -> list[str]:
    return [*__all__, "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'attn_surgeon' has no attribute '{name}'")
    return getattr(import_module(_MODULES[name]), name)
