"""Stand-ins for a module and its descendants while its forward is traced.

torch.fx patches `nn.Module.__call__` and `__getattr__` for the whole process as it traces, so that another thread
that runs a network meanwhile breaks. Here the module that is traced is a copy of another class instead: its
descendants are copies too, made as they are met, whose calls become nodes and whose parameters are nodes. Values and
tables are shared with the originals, which are never changed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Protocol

import torch
from torch import nn

from attn_surgeon.surgery.rewrite.grafts import own_children
from attn_surgeon.surgery.rewrite.operated import original_class

_PLACE = "_attn_surgeon_place"
_TABLES = ("_parameters", "_buffers")
_MOST_CLASSES = 4096


class Traces(Protocol):
    """What a stand-in needs of its tracer; `stand_ins` are those made, by the identity of the module."""

    stand_ins: dict[int, Any]

    def call_leaf(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return what stands for the result of a call of the module at a path."""

    def parameter(self, path: str, value: nn.Parameter) -> Any:
        """Return what stands for the parameter at a path."""

    def path_of(self, module: nn.Module) -> str:
        """Return the path of a descendant, the first it has; nothing for a module that is none."""


class _Children(dict[str, Any]):
    """A module's children, each as a stand-in that is made when it is first met."""

    def __init__(self, children: dict[str, nn.Module | None], path: str, tracer: Traces) -> None:
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


def stand_in(module: nn.Module, path: str, tracer: Traces) -> Any:
    """Return a stand-in for a module, of its class before any graft; the one whose forward is traced has no path."""
    if id(module) in tracer.stand_ins:
        return tracer.stand_ins[id(module)]
    base = original_class(module)
    scripted = issubclass(base, torch.jit.ScriptModule)  # its class is made for one object in C++
    made: Any = object.__new__(_class(nn.Module if scripted else base, not path))
    own = vars(made)
    tracer.stand_ins[id(module)] = made
    own.update({name: _listed(value, tracer) for name, value in vars(module).items()})
    own.update({table: dict(own[table]) for table in _TABLES if table in own})
    own["_modules"] = _Children({} if scripted else own_children(module), path, tracer)
    own[_PLACE] = (path, tracer)
    return made


def _listed(value: Any, tracer: Traces) -> Any:
    """Replace modules that are plain attributes, alone or in a list or tuple, by stand-ins."""
    if isinstance(value, nn.Module):
        return stand_in(value, tracer.path_of(value), tracer)
    if type(value) in (list, tuple) and any(isinstance(item, nn.Module) for item in value):
        return type(value)(_listed(item, tracer) for item in value)
    return value


@lru_cache(_MOST_CLASSES)
def _class(base: type[Any], is_root: bool) -> type[Any]:
    """Build the class of stand-ins for modules of a class; the root's forward runs, the others' are leaves."""

    def get_attribute(self: Any, name: str) -> Any:
        value = super(cls, self).__getattr__(name)
        if isinstance(value, nn.Parameter) and name in vars(self)["_parameters"] and _PLACE in vars(self):
            path, tracer = vars(self)[_PLACE]
            return tracer.parameter(f"{path}.{name}".removeprefix("."), value)
        return value

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _PLACE not in vars(self):  # made in the forward, such as a slice of a Sequential
            return super(cls, self).__call__(*args, **kwargs)
        path, tracer = vars(self)[_PLACE]
        return tracer.call_leaf(path, args, kwargs)

    namespace: dict[str, Any] = {"__getattr__": get_attribute, "__module__": base.__module__}
    make: Any = type(base)
    cls: type[Any] = make(base.__name__, (base,), namespace if is_root else namespace | {"__call__": call})
    return cls


def tensors_of(module: Any) -> Iterator[tuple[str, torch.Tensor]]:
    """List the parameters, buffers and plain tensors of a module and its descendants, by path."""
    for path, part in module.named_modules():
        prefix = f"{path}." if path else ""
        for table in (vars(part), *(vars(part)[name] for name in _TABLES if name in vars(part))):
            yield from ((prefix + name, item) for name, item in table.items() if isinstance(item, torch.Tensor))
