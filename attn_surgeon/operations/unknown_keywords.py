"""Refuse unknown keyword arguments, which are often options of the block."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

from attn_surgeon.errors import KeywordError, excerpt, nearest

_P = ParamSpec("_P")
_R = TypeVar("_R")


def refuses_unknown_keywords(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Decorate a function to raise KeywordError, with a hint to `options`, for a keyword that it does not take."""
    known = signature(function).parameters
    others = known.keys() - {"options"}

    @wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        for name, value in kwargs.items():
            if name not in known:
                close = f"{nearest(name, others)} ".lstrip()
                hint = f"{close}options of the block are passed as options={{{name!r}: {excerpt(repr(value))}}}"
                raise KeywordError(f"{function.__name__} has no argument '{name}'", "", hint)
        return function(*args, **kwargs)

    return wrapper
