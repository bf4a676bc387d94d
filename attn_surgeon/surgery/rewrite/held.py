"""What a method that was assigned to an operated module holds on to: the one it replaced, copies, compiled code.

All that it wraps, is bound to, closes over or names is searched, once for each assigned method.
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

_DEEPEST, _MOST = 8, 32
MARK = "_attn_surgeon_generated"


@dataclass(frozen=True)
class HeldReferences:
    """What an assigned method was found to hold on to.

    `wrapper`: the method that it replaced. `opaque`: what was compiled or traced of that, with its grafts, and does
    not tell whether they run. `copies`: the grafts of copies of the module. All this stands as long as the same is
    assigned in place of the same, and holds directly on to the same.
    """

    assigned: Callable[..., Any]
    replaced: Callable[..., Any]
    directly: tuple[Any, ...]
    wrapper: bool
    opaque: bool
    copies: tuple[Grafts, ...]

    def stands(self, assigned: Callable[..., Any], own: Callable[..., Any], directly: Sequence[Any]) -> bool:
        """Return whether nothing has changed since."""
        same = self.assigned is assigned and self.replaced is own and len(self.directly) == len(directly)
        return same and all(map(operator.is_, self.directly, directly))


def held(assigned: Callable[..., Any], module: nn.Module, name: str, grafts: Grafts) -> HeldReferences:
    """Return what a method that was assigned to a module holds on to, searched once."""
    known: HeldReferences | None = grafts.judged.get(id(assigned))
    own, directly = replaced(module, name), _held(assigned, module)
    if known is None or not known.stands(assigned, own, directly):
        if len(grafts.judged) >= _MOST:  # some assign another one for each call
            grafts.judged.clear()
        known = grafts.judged[id(assigned)] = _search(assigned, module, own, tuple(directly), grafts)
    return known


def replaced(module: nn.Module, name: str) -> Callable[..., Any]:
    """Return the method of an operated module's class that an assigned one stands in for."""
    method: Callable[..., Any] = getattr(type(module), name)
    return method


def _search(
    assigned: Callable[..., Any], module: nn.Module, own: Callable[..., Any], directly: tuple[Any, ...], grafts: Grafts
) -> HeldReferences:
    found = list(_reachable(assigned, module))
    wrapper = any(_is_replaced(item, own) for item in found)
    compiled = getattr(assigned, "_torchdynamo_orig_callable", None)
    if compiled is not None:
        return HeldReferences(assigned, own, directly, wrapper=False, opaque=_is_generated(compiled, module), copies=())
    others = [item for item in found if isinstance(item, nn.Module) and not _is_around(item, module)]
    opaque = any(isinstance(item, torch._C.ScriptMethod) and RESERVED in str(item.graph) for item in found)
    opaque = opaque or any(_is_opaque(other) and _has_copies(other, grafts) for other in others)
    copies = [part for other in others if not _is_opaque(other) for part in _copies(other, grafts)]
    return HeldReferences(
        assigned, own, directly, wrapper and not isinstance(assigned, nn.Module), opaque, tuple(copies)
    )


def _is_replaced(found: Any, own: Any) -> bool:
    """Return whether this is the method that was replaced, or in a copy of the module, that of the first one."""
    marked = isinstance(found, types.FunctionType) and MARK in vars(found)
    return found is own or (marked and found.__code__ == own.__code__)


def wraps_grafts(module: nn.Module) -> bool:
    """Return whether a forward that was assigned to a module holds on to one with grafts."""
    assigned = vars(module).get("forward")
    return assigned is not None and _is_generated(assigned, module)


def _is_generated(assigned: Callable[..., Any], module: nn.Module) -> bool:
    functions = (found for found in _reachable(assigned, module) if isinstance(found, types.FunctionType))
    return any(MARK in vars(found) for found in functions)


def _is_around(other: nn.Module, module: nn.Module) -> bool:
    return any(part is module for part in other.modules())


def _is_opaque(other: nn.Module) -> bool:
    """Return whether a module runs code that was compiled or traced, in which no graft can be watched."""
    kinds = (torch.jit.ScriptModule, fx.GraphModule)
    return any(isinstance(part, kinds) or hasattr(part, "_orig_mod") for part in other.modules())


def _copies(other: nn.Module, grafts: Grafts) -> list[Grafts]:
    """List the containers in another module that have grafts under the names of these."""
    return [part for part in other.modules() if isinstance(part, Grafts) and set(part) >= set(grafts)]


def _has_copies(other: nn.Module, grafts: Grafts) -> bool:
    """Return whether a module has weights under the names of these grafts, as what is made of their owner does.

    A frozen one has none, but its code has the names.
    """
    names = [name for name, _ in other.named_parameters()]
    if isinstance(other, torch.jit.ScriptModule) and not names:
        return RESERVED in str(other.graph)
    keys = [key for key in grafts if any(True for _ in grafts[key].parameters())]
    return bool(keys) and all(any(re.search(rf"(^|[._]){RESERVED}[._]{key}[._]", n) for n in names) for key in keys)


def _reachable(assigned: Callable[..., Any], module: nn.Module) -> Iterator[Any]:
    """List what a function holds on to, at any depth."""
    seen: set[int] = set()
    waiting: list[tuple[Any, int]] = [(assigned, 0)]
    while waiting:
        found, depth = waiting.pop()
        if id(found) not in seen and depth < _DEEPEST:
            seen.add(id(found))
            yield found
            waiting += [(part, depth + 1) for part in _held(found, module) if _may_hold(part)]


def _may_hold(value: Any) -> bool:
    return callable(value) or type(value) in (dict, list, tuple)


def _held(function: Any, module: nn.Module) -> list[Any]:
    """List what a callable holds on to: what it is bound to, wraps or closes over, and what it names of its module."""
    if isinstance(function, (dict, list, tuple)):
        return list(function.values() if isinstance(function, dict) else function)
    if isinstance(function, types.MethodType):
        return [function.__func__, *_bound(function.__self__, module)]
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, types.FunctionType):
        names = function.__code__.co_names
        cells = [_content(cell) for cell in function.__closure__ or ()]
        named = [vars(module).get(name) for name in names if name != "forward"]
        engines = [item for item in map(function.__globals__.get, names) if isinstance(item, nn.Module)]
        return [*cells, *named, *engines, *(function.__defaults__ or ()), *vars(function).values()]
    return [] if isinstance(function, (nn.Module, type)) else _attributes(function)


def _bound(owner: Any, module: nn.Module) -> list[Any]:
    """List what a method is bound to, or of an object of another kind, its attributes."""
    if isinstance(owner, nn.Module):
        return [] if owner is module else [owner]
    return [] if isinstance(owner, type) else _attributes(owner)


def _attributes(value: Any) -> list[Any]:
    slots = [name for cls in type(value).__mro__ for name in _names(vars(cls).get("__slots__", ()))]
    return [*getattr(value, "__dict__", {}).values(), *(getattr(value, name, None) for name in slots)]


def _names(slots: Any) -> list[str]:
    found = [slots] if isinstance(slots, str) else list(slots)
    return [name for name in found if name not in ("__dict__", "__weakref__")]


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None
