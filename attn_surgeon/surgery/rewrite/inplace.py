"""In-place operators in traces, for fx turns `out += shortcut` into `out = out + shortcut`.

That is another dtype where the two differ, under autocast say, and another tensor where `out` has a second name.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

# People know the node of `out += shortcut` as `add`, the name torchvision's feature extraction gives it.
USUAL_NAMES: dict[object, str] = {
    operator.iadd: "add",
    operator.isub: "sub",
    operator.imul: "mul",
    operator.itruediv: "truediv",
}


class InPlaceProxy(fx.Proxy):
    """A traced value that keeps in-place operators in place."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._in_place(operator.itruediv, other)

    def _in_place(self, target: Callable[..., Any], other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", target, (self, other), {})
