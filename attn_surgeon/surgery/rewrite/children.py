"""What the users of an operated module see of its children.

The reserved child is one of them, the first, so that whatever walks a network reaches the grafts: `.to()`, `train()`,
hooks, sharding. A list of the children is another thing. People index, slice and cut it as they did the original's,
so the reserved child is left out of it, and what is lost thereby is told there and then.
"""

from __future__ import annotations

import operator
import re
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from attn_surgeon.surgery.rewrite.grafts import grafts_of, own_children, warn_left_out

_INSTALLED = re.compile(r"[\\/](?:site|dist)-packages[\\/]")


def seen_children(base: type[nn.Module]) -> dict[str, Any]:
    """Return the methods that an operated class has of its own for those who go over its children."""
    methods: dict[str, Callable[..., Any]] = {}
    if base.children is nn.Module.children:
        methods["children"] = _children
    if issubclass(base, nn.ModuleDict):
        methods |= {
            "__iter__": lambda self: iter(own_children(self)),
            "__len__": lambda self: len(own_children(self)),
            "__contains__": lambda self, key: key in own_children(self),
            "keys": lambda self: own_children(self).keys(),
            "items": lambda self: own_children(self).items(),
            "values": lambda self: own_children(self).values(),
        }
    elif issubclass(base, nn.Sequential):
        methods |= {
            "__iter__": lambda self: iter(own_children(self).values()),
            "__len__": lambda self: len(own_children(self)),
            "__getitem__": lambda self, index: _item(base, self, index),
        }
    return methods


def _item(base: type[Any], module: nn.Module, index: Any) -> Any:
    """Return a child, or a Sequential of the class before any graft for a slice."""
    children = list(own_children(module).items())
    return base(OrderedDict(children[index])) if isinstance(index, slice) else children[operator.index(index)][1]


def _children(self: nn.Module) -> Iterator[nn.Module]:
    """Return an iterator over the children, as `torch.nn.Module.children` does."""
    found = nn.Module.children(self)
    if torch.compiler.is_compiling() or _walks(self, sys._getframe(1)):
        return found
    return _Children(self, found)


def _walks(module: nn.Module, caller: Any) -> bool:
    """Return whether the caller is code that walks any network, as that of torch, of libraries and of the module."""
    name, file = caller.f_globals.get("__name__", ""), caller.f_code.co_filename
    return name.startswith("torch.") or bool(_INSTALLED.search(file)) or caller.f_locals.get("self") is module


class _Children:
    """The children of an operated module: all of them in a loop, in a list those that the original has."""

    def __init__(self, module: nn.Module, left: Iterator[nn.Module]) -> None:
        self._module, self._left, self._begun = module, left, False

    def __iter__(self) -> Iterator[nn.Module]:
        return self

    def __next__(self) -> nn.Module:
        self._begun = True
        return next(self._left)

    def __length_hint__(self) -> int:
        """Return how many there are, which `list()`, `tuple()` and `*` ask for at first, and loops do not."""
        grafts = grafts_of(self._module)
        if grafts is not None and not self._begun:
            warn_left_out(self._module, [grafts.record(key) for key in grafts])
            self._left = iter([child for child in self._left if child is not grafts])
        return len(self._module._modules)
