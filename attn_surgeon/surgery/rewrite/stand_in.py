"""Stand-ins for a module and its descendants while its forward is traced, so that tracing is thread-safe.

`torch.fx` patches `nn.Module.__call__` and `__getattr__` of the whole process while it traces, which breaks networks
that run in other threads. Here a copy of the module is traced instead, whose class is a subclass. Its descendants are
replaced by such copies when they are first accessed: their calls and their parameters become nodes. The copies share
the values of the originals, which are never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import nn

from attn_surgeon.surgery.rewrite.grafts import original_children
from attn_surgeon.surgery.rewrite.operated_modules import folded_children, original_class

_PLACE = "_attn_surgeon_place"
_TABLES = ("_parameters", "_buffers")
_MAX_CLASSES = 4096


class StandInTracer(Protocol):
    """The interface of a tracer to stand-ins; `stand_ins` are those made so far, by the `id` of the module."""

    stand_ins: dict[int, Any]

    def call_leaf(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return the proxy of a call of the module at a path."""

    def parameter(self, path: str, value: nn.Parameter) -> Any:
        """Return the proxy of the parameter at a path."""

    def path_of(self, module: nn.Module) -> str:
        """Return the first path of a descendant; an empty text for other modules."""


class _Children(dict[str, Any]):
    """The children of a module, each replaced by a stand-in when it is first accessed."""

    def __init__(self, children: dict[str, nn.Module | None], path: str, tracer: StandInTracer) -> None:
        super().__init__(children)
        self._path, self._tracer = path, tracer

    def __getitem__(self, name: str) -> Any:
        child = super().__getitem__(name)
        if isinstance(child, nn.Module) and _PLACE not in vars(child):
            path = self._tracer.path_of(child) or f"{self._path}.{name}".removeprefix(".")
            child = stand_in(child, path, self._tracer)
            super().__setitem__(name, child)
        return child

    def get(self, name: str, default: Any = None) -> Any:
        return self[name] if super().get(name) is not None else default

    def values(self) -> Any:
        return {name: self[name] for name in self}.values()

    def items(self) -> Any:
        return {name: self[name] for name in self}.items()


def stand_in(module: nn.Module, path: str, tracer: StandInTracer) -> Any:
    """Return a stand-in for a module, based on its original class; the root, whose forward is traced, has no path."""
    if id(module) in tracer.stand_ins:
        return tracer.stand_ins[id(module)]
    base = original_class(module)
    scripted = issubclass(base, torch.jit.ScriptModule)  # the class of a C++ object, which has no Python forward
    copy: Any = object.__new__(_class(nn.Module if scripted else base, not path))
    attributes = vars(copy)
    tracer.stand_ins[id(module)] = copy
    attributes.update({name: _replaced(value, tracer) for name, value in vars(module).items()})
    attributes.update({table: dict(attributes[table]) for table in _TABLES if table in attributes})
    children = {} if scripted else original_children(module)
    norms = {name: nn.Identity() for name in folded_children(module)}  # so that the unfused forward traces
    attributes["_modules"] = _Children({**children, **norms}, path, tracer)
    attributes[_PLACE] = (path, tracer)
    return copy


def _replaced(value: Any, tracer: StandInTracer) -> Any:
    """Return an attribute with stand-ins in place of modules, which need not be registered as children."""
    if isinstance(value, nn.Module):
        return stand_in(value, tracer.path_of(value), tracer)
    if type(value) in (list, tuple) and any(isinstance(item, nn.Module) for item in value):
        return type(value)(_replaced(item, tracer) for item in value)
    return value


@lru_cache(_MAX_CLASSES)
def _class(base: type[Any], is_root: bool) -> type[Any]:
    """Build the class of stand-ins for modules of a class; the root runs its forward, the others are leaves."""

    def get_attribute(self: Any, name: str) -> Any:
        value = super(cls, self).__getattr__(name)
        if isinstance(value, nn.Parameter) and name in vars(self)["_parameters"] and _PLACE in vars(self):
            path, tracer = vars(self)[_PLACE]
            return tracer.parameter(f"{path}.{name}".removeprefix("."), value)
        return value

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _PLACE not in vars(self):  # created in the traced forward, such as a slice of a Sequential
            return super(cls, self).__call__(*args, **kwargs)
        path, tracer = vars(self)[_PLACE]
        return tracer.call_leaf(path, args, kwargs)

    namespace: dict[str, Any] = {"__getattr__": get_attribute, "__module__": base.__module__}
    metaclass: Any = type(base)
    cls: type[Any] = metaclass(base.__name__, (base,), namespace if is_root else namespace | {"__call__": call})
    return cls


def tensors_of(module: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield the parameters, buffers and tensor attributes of a module and its descendants, with their paths."""
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        for table in (vars(part), *(vars(part)[name] for name in _TABLES if name in vars(part))):
            yield from ((prefix + name, item) for name, item in table.items() if isinstance(item, torch.Tensor))
