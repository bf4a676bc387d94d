"""Check for optional dependencies; the error names the extra of attn-surgeon to install."""

from __future__ import annotations

from importlib.util import find_spec

from attn_surgeon.errors import SurgeonError


def is_installed(module: str) -> bool:
    """Return whether a top-level module can be imported, without importing it.

    >>> is_installed("json"), is_installed("no_such_module")
    (True, False)
    """
    return find_spec(module) is not None


def require_extra(extra: str, *modules: str, what: str = "this") -> None:
    """Raise SurgeonError if a module of an extra is not installed.

    Args:
        extra: the extra of attn-surgeon, as in `pip install 'attn-surgeon[draw]'`.
        modules: the top-level modules that must be installed; none is imported.
        what: what needs them, the subject of the error.

    >>> require_extra("draw", "json")
    >>> require_extra("draw", "no_such_module", what="the chart")
    Traceback (most recent call last):
    attn_surgeon.errors.SurgeonError: the chart needs no_such_module; pip install 'attn-surgeon[draw]'
    """
    if missing := [module for module in modules if not is_installed(module)]:
        raise SurgeonError(f"{what} needs {' and '.join(missing)}", "", f"pip install 'attn-surgeon[{extra}]'")
