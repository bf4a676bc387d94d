"""In-place operators as functions, for fx turns `out += shortcut` into `out = out + shortcut`.

That is another dtype where the two differ, under autocast say, and another tensor where `out` has a second name.
The functions are called what people know their nodes by.
"""

from __future__ import annotations

from typing import Any

from torch import fx


def add(value: Any, other: Any) -> Any:
    """Add in place, where `value` is a tensor."""
    value += other
    return value


def sub(value: Any, other: Any) -> Any:
    """Subtract in place, where `value` is a tensor."""
    value -= other
    return value


def mul(value: Any, other: Any) -> Any:
    """Multiply in place, where `value` is a tensor."""
    value *= other
    return value


def truediv(value: Any, other: Any) -> Any:
    """Divide in place, where `value` is a tensor."""
    value /= other
    return value


class InPlaceProxy(fx.Proxy):
    """A traced value that keeps in-place operators in place."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", add, (self, other), {})

    def __isub__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", sub, (self, other), {})

    def __imul__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", mul, (self, other), {})

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", truediv, (self, other), {})
