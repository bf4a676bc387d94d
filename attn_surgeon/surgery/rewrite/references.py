"""Search the objects that a method assigned to an operated module references: the method it replaced, copies, compiled
code.

The search follows what a callable wraps, is bound to, closes over, or names in its module, once per assigned method.
"""

from __future__ import annotations

import functools
import operator
import re
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts

_MAX_DEPTH, _MAX_CACHED = 8, 32
MARK = "_attn_surgeon_generated"  # an attribute of generated methods


@dataclass(frozen=True)
class References:
    """The objects that an assigned method references.

    Args:
        assigned: the assigned method.
        replaced: the method of the class that it replaces.
        directly: its direct references; the result of a search is valid as long as they are the same objects.
        wrapper: whether it references the method that it replaces, as wrappers do.
        opaque: whether it references code compiled or traced from that method, in which no graft can be observed.
        copies: the grafts of copies of the module that it references.
    """

    assigned: Callable[..., Any]
    replaced: Callable[..., Any]
    directly: tuple[Any, ...]
    wrapper: bool
    opaque: bool
    copies: tuple[Grafts, ...]

    def is_valid(self, assigned: Callable[..., Any], replaced: Callable[..., Any], directly: Sequence[Any]) -> bool:
        """Return whether nothing has changed since the search."""
        same = self.assigned is assigned and self.replaced is replaced and len(self.directly) == len(directly)
        return same and all(map(operator.is_, self.directly, directly))


def find_references(assigned: Callable[..., Any], module: nn.Module, name: str, grafts: Grafts) -> References:
    """Return the objects that a method assigned to a module references, from the cache where that is still valid."""
    cached: References | None = grafts.references.get(id(assigned))
    replaced, directly = replaced_method(module, name), _direct_references(assigned, module)
    if cached is None or not cached.is_valid(assigned, replaced, directly):
        if len(grafts.references) >= _MAX_CACHED:  # other code may assign a new function for each call
            grafts.references.clear()
        cached = grafts.references[id(assigned)] = _search(assigned, module, replaced, tuple(directly), grafts)
    return cached


def replaced_method(module: nn.Module, name: str) -> Callable[..., Any]:
    """Return the method of an operated module's class that an assigned one replaces."""
    method: Callable[..., Any] = getattr(type(module), name)
    return method


def _search(
    assigned: Callable[..., Any],
    module: nn.Module,
    replaced: Callable[..., Any],
    directly: tuple[Any, ...],
    grafts: Grafts,
) -> References:
    compiled = getattr(assigned, "_torchdynamo_orig_callable", None)
    if compiled is not None:
        opaque = _is_generated(compiled, module)
        return References(assigned, replaced, directly, wrapper=False, opaque=opaque, copies=())
    reachable = list(_reachable(assigned, module))
    wrapper = not isinstance(assigned, nn.Module) and any(_is_replaced(item, replaced) for item in reachable)
    others = [item for item in reachable if isinstance(item, nn.Module) and not _contains(item, module)]
    opaque = any(isinstance(item, torch._C.ScriptMethod) and RESERVED in str(item.graph) for item in reachable)
    opaque = opaque or any(_is_opaque(other) and _has_copies(other, grafts) for other in others)
    copies = tuple(part for other in others if not _is_opaque(other) for part in _copies(other, grafts))
    return References(assigned, replaced, directly, wrapper=wrapper, opaque=opaque, copies=copies)


def _is_replaced(item: Any, replaced: Any) -> bool:
    """Return whether an object is the replaced method or, in a copy of the module, that method of the original."""
    marked = isinstance(item, types.FunctionType) and MARK in vars(item)
    return item is replaced or (marked and item.__code__ == replaced.__code__)


def wraps_grafts(module: nn.Module) -> bool:
    """Return whether a forward that was assigned to a module references a generated one, with grafts."""
    assigned = vars(module).get("forward")
    return assigned is not None and _is_generated(assigned, module)


def _is_generated(assigned: Callable[..., Any], module: nn.Module) -> bool:
    functions = (item for item in _reachable(assigned, module) if isinstance(item, types.FunctionType))
    return any(MARK in vars(function) for function in functions)


def _contains(other: nn.Module, module: nn.Module) -> bool:
    return any(part is module for part in other.modules())


def _is_opaque(other: nn.Module) -> bool:
    """Return whether a module runs code that was compiled or traced, in which no graft can be observed."""
    kinds = (torch.jit.ScriptModule, fx.GraphModule)
    return any(isinstance(part, kinds) or hasattr(part, "_orig_mod") for part in other.modules())


def _copies(other: nn.Module, grafts: Grafts) -> list[Grafts]:
    """Return the containers in another module that have grafts with the same keys."""
    return [part for part in other.modules() if isinstance(part, Grafts) and set(part) >= set(grafts)]


def _has_copies(other: nn.Module, grafts: Grafts) -> bool:
    """Return whether a compiled or traced module has parameters named like these grafts, so was made from their owner.

    A frozen ScriptModule has no parameters, but the names are in its graph.
    """
    names = [name for name, _ in other.named_parameters()]
    if isinstance(other, torch.jit.ScriptModule) and not names:
        return RESERVED in str(other.graph)
    keys = [key for key in grafts if any(True for _ in grafts[key].parameters())]
    return bool(keys) and all(any(re.search(rf"(^|[._]){RESERVED}[._]{key}[._]", n) for n in names) for key in keys)


def _reachable(assigned: Callable[..., Any], module: nn.Module) -> Iterator[Any]:
    """Yield the callables and containers that a function references, directly or not, the function included."""
    visited: set[int] = set()
    waiting: list[tuple[Any, int]] = [(assigned, 0)]
    while waiting:
        item, depth = waiting.pop()
        if id(item) not in visited and depth < _MAX_DEPTH:
            visited.add(id(item))
            yield item
            waiting += [(part, depth + 1) for part in _direct_references(item, module) if _is_followed(part)]


def _is_followed(value: Any) -> bool:
    return callable(value) or type(value) in (dict, list, tuple)


def _direct_references(function: Any, module: nn.Module) -> list[Any]:
    """Return what a callable is bound to, wraps and closes over, and the attributes and globals that its code names."""
    if isinstance(function, (dict, list, tuple)):
        return list(function.values() if isinstance(function, dict) else function)
    if isinstance(function, types.MethodType):
        return [function.__func__, *_bound_to(function.__self__, module)]
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, types.FunctionType):
        names = function.__code__.co_names
        cells = [_content(cell) for cell in function.__closure__ or ()]
        attributes = [vars(module).get(name) for name in names if name != "forward"]
        global_modules = [item for item in map(function.__globals__.get, names) if isinstance(item, nn.Module)]
        return [*cells, *attributes, *global_modules, *(function.__defaults__ or ()), *vars(function).values()]
    return [] if isinstance(function, (nn.Module, type)) else _attributes(function)


def _bound_to(owner: Any, module: nn.Module) -> list[Any]:
    """Return the module that a method is bound to or, for another object, its attributes; nothing for `module`."""
    if isinstance(owner, nn.Module):
        return [] if owner is module else [owner]
    return [] if isinstance(owner, type) else _attributes(owner)


def _attributes(value: Any) -> list[Any]:
    slots = [name for cls in type(value).__mro__ for name in _names(vars(cls).get("__slots__", ()))]
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in slots)]


def _names(slots: Any) -> list[str]:
    names = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in names if name not in ("__dict__", "__weakref__")]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # an empty cell
        return None
