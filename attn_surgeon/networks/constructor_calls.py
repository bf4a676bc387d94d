"""Call constructors of libraries and users, and turn their exceptions into short errors."""

from __future__ import annotations

import contextlib
import inspect
import re
import traceback
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from attn_surgeon.errors import SourceError, SurgeonError, nearest, option
from attn_surgeon.user_code import one_line

_UNEXPECTED = re.compile(r"(\w+)(?:\.__init__)?\(\) got an unexpected keyword argument '(\w+)'")
_OPEN = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


@contextlib.contextmanager
def library_errors(where: str) -> Iterator[None]:
    """Raise SourceError for exceptions of a library while it builds a network."""
    try:
        yield
    except SurgeonError:
        raise
    except Exception as error:
        if isinstance(error, TypeError) and (found := _UNEXPECTED.search(str(error))):
            raise unknown_argument(found[2], _parameters(error, found[1]), where) from error
        raise SourceError(
            f"the network cannot be built: {one_line(error)}", where, f"check its {option('arg')}"
        ) from error


def unknown_argument(name: str, valid: Collection[str], where: str) -> SourceError:
    """Return the error for an argument that does not exist."""
    listed = f"valid: {', '.join(valid)}" if valid else "its valid arguments are not known"
    close = nearest(name, valid)
    return SourceError(f"unknown argument {name!r}", where, f"{close} {listed}" if close else listed)


def check_reserved(args: Mapping[str, object], reserved: Collection[str], where: str) -> None:
    """Raise SourceError for arguments that choose weights; there is an option for that."""
    if taken := sorted(set(args) & set(reserved)):
        raise SourceError(f"argument {', '.join(taken)} is reserved", where, f"choose weights with {option('weights')}")


def check_arguments(factory: Callable[..., Any], args: Mapping[str, object], where: str) -> None:
    """Raise SourceError for unknown arguments of a factory, and for missing ones."""
    try:
        parameters = inspect.signature(factory).parameters
    except (TypeError, ValueError):
        return  # built-in callables may have no signature; the call itself then raises
    named = {name: p for name, p in parameters.items() if p.kind not in _OPEN}
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
    for name in args:
        if name not in named and not takes_all:
            raise unknown_argument(name, list(named), where)
    missing = [name for name, p in named.items() if p.default is p.empty and name not in args]
    if missing:
        options = " ".join(str(option("arg", f"{name}=…")) for name in missing)
        raise SourceError(f"missing argument {', '.join(missing)}", where, f"add {options}")


def _parameters(error: BaseException, name: str) -> list[str]:
    """Return the parameters of the callable of this name in the frames of an exception."""
    for frame, _ in traceback.walk_tb(error.__traceback__):
        target = frame.f_globals.get(name)
        if callable(target):
            parameters = inspect.signature(target).parameters.values()
            return [p.name for p in parameters if p.kind not in _OPEN and p.name != "self"]
    return []
