"""Override `children()`, `len()`, indexing and iteration of an operated module.

The container of the grafts is the first child, so that everything that walks a network reaches it: `.to()`, `train()`,
hooks, sharding. A list of the children leaves it out, because users index and slice that list as they did the
original's; a warning names the grafts that a network built from the list does not run.
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

from attn_surgeon.surgery.rewrite.grafts import grafts_of, original_children, warn_left_out

_INSTALLED = re.compile(r"[\\/](?:site|dist)-packages[\\/]")


def child_methods(base: type[nn.Module]) -> dict[str, Any]:
    """Return the methods by which an operated class overrides access to its children."""
    methods: dict[str, Callable[..., Any]] = {}
    if base.children is nn.Module.children:
        methods["children"] = _children
    if issubclass(base, nn.ModuleDict):
        methods |= {
            "__iter__": lambda self: iter(original_children(self)),
            "__len__": lambda self: len(original_children(self)),
            "__contains__": lambda self, key: key in original_children(self),
            "keys": lambda self: original_children(self).keys(),
            "items": lambda self: original_children(self).items(),
            "values": lambda self: original_children(self).values(),
        }
    elif issubclass(base, nn.Sequential):
        methods |= {
            "__iter__": lambda self: iter(original_children(self).values()),
            "__len__": lambda self: len(original_children(self)),
            "__getitem__": lambda self, index: _item(base, self, index),
        }
    return methods


def _item(base: type[Any], module: nn.Module, index: Any) -> Any:
    """Return a child of a Sequential or, for a slice, an instance of its original class."""
    children = list(original_children(module).items())
    return base(OrderedDict(children[index])) if isinstance(index, slice) else children[operator.index(index)][1]


def _children(self: nn.Module) -> Iterator[nn.Module]:
    """Return an iterator over the children, as `torch.nn.Module.children` does."""
    children = nn.Module.children(self)
    if torch.compiler.is_compiling() or _is_library_code(self, sys._getframe(1)):
        return children
    return _Children(self, children)


def _is_library_code(module: nn.Module, caller: Any) -> bool:
    """Return whether a frame is in torch, an installed package or a method of the module: it gets all children."""
    name, file = caller.f_globals.get("__name__", ""), caller.f_code.co_filename
    return name.startswith("torch.") or bool(_INSTALLED.search(file)) or caller.f_locals.get("self") is module


class _Children:
    """An iterator over the children of an operated module: all of them in a loop, the original's in a list."""

    def __init__(self, module: nn.Module, remaining: Iterator[nn.Module]) -> None:
        self._module, self._remaining, self._started = module, remaining, False

    def __iter__(self) -> Iterator[nn.Module]:
        return self

    def __next__(self) -> nn.Module:
        self._started = True
        return next(self._remaining)

    def __length_hint__(self) -> int:
        """Return the number of children. `list()`, `tuple()` and `*` call this first; loops do not."""
        grafts = grafts_of(self._module)
        if grafts is not None and not self._started:
            warn_left_out(self._module, [grafts.record(key) for key in grafts])
            self._remaining = iter([child for child in self._remaining if child is not grafts])
        return len(self._module._modules)
