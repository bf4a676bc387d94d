"""Trace in-place operators as such: `torch.fx` would trace `out += shortcut` as `out = out + shortcut`.

The result would have another dtype where the two differ, as under autocast, and views of `out` would keep their values.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from torch import fx

# torchvision's feature extraction calls the node of `out += shortcut` `add`.
USUAL_NAMES: dict[object, str] = {
    operator.iadd: "add",
    operator.isub: "sub",
    operator.imul: "mul",
    operator.itruediv: "truediv",
}


class InPlaceProxy(fx.Proxy):
    """A proxy whose in-place operators are traced as nodes that work in place."""

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
