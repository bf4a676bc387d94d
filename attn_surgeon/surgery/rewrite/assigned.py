"""Forwards that other code assigns to an operated module: `m.forward = m.forward_fuse`, `types.MethodType`, wrappers.

A method of an operated class is a data descriptor, so what is assigned to the object does not hide it. An assigned
forward runs with the grafts at the module's entry and exit around it, each exactly once: where it calls the forward
that it replaced, as wrappers do, they run in there. A graft inside a forward that was replaced cannot be kept; where
it did not run in the call, LostGraftError is raised.
"""

from __future__ import annotations

import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts, grafts_of
from attn_surgeon.surgery.rewrite.items import get_item, put_item
from attn_surgeon.surgery.rewrite.signature import first_parameter

_DEEPEST = 8
MARK = "_attn_surgeon_generated"


class Method:
    """A method of an operated class, also where another is assigned to the object under its name."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function

    def __get__(self, module: nn.Module | None, owner: type | None = None) -> Callable[..., Any]:
        if module is None:
            return self.function
        assigned = vars(module).get(self.name)
        if assigned is None:
            bound: Callable[..., Any] = self.function.__get__(module)  # torch.compile knows no types.MethodType
            return bound
        return types.MethodType(Around(self.name, assigned), module)

    def __set__(self, module: nn.Module, value: Callable[..., Any]) -> None:
        vars(module)[self.name] = value

    def __delete__(self, module: nn.Module) -> None:
        try:
            del vars(module)[self.name]
        except KeyError:
            raise AttributeError(self.name) from None


class Around:
    """A method that was assigned to an operated module, with the module's grafts around it."""

    def __init__(self, name: str, assigned: Callable[..., Any]) -> None:
        self.name, self.__wrapped__ = name, assigned  # __wrapped__ leads on to what a wrapper wraps
        self.__name__ = getattr(assigned, "__name__", name)

    def __call__(self, module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
        return run_assigned(module, self.name, self.__wrapped__, args, kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Around) and self.__wrapped__ == other.__wrapped__

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(self.__wrapped__)
        own = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        return signature.replace(parameters=[own, *signature.parameters.values()])


def run_assigned(
    module: nn.Module, name: str, assigned: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run a method that was assigned to an operated module, with the module's grafts, each once.

    Raises LostGraftError where a graft inside what it replaced did not run.
    """
    grafts = grafts_of(module)
    if grafts is None or len(grafts) == 0:
        return assigned(*args, **kwargs)
    places = {key: grafts.record(key).placement for key in grafts}
    kinds = {key: place.kind for key, place in places.items()}
    entries = [key for key, kind in kinds.items() if kind == "entry" and name == "forward"]
    exits = [key for key, kind in kinds.items() if kind == "exit" and name == "forward"]
    inside = [key for key, place in places.items() if place.kind == "edge" and name in ("forward", place.method)]
    wrapper = _calls_replaced(assigned, module, name)
    if _is_made_of_grafts(assigned, module, grafts) and not (wrapper and _is_plain(assigned)):
        return assigned(*args, **kwargs)
    first = [] if wrapper or _made(grafts, entries) else entries
    if first:
        args, kwargs = _entered(grafts, first, first_parameter(replaced(module, name)), args, kwargs)
    with grafts.runs.watched(grafts, frozenset(first)) as run:
        output = assigned(*args, **kwargs)
    ran = run.ran(grafts, copies=wrapper) | run.made
    if wrapper:
        _require_run([*entries, *inside, *exits], ran, grafts, module, "a wrapper did not call the forward it is for")
    for key in [key for key in exits if key not in ran]:
        output = _attended(grafts, key, places[key].item, output)
    _require_run(inside, ran, grafts, module, "the forward they are in was replaced by another one")
    return output


def _made(grafts: Grafts, entries: Sequence[str]) -> bool:
    """Return whether an outer call of the same module ran the grafts at its entry already."""
    here = [run for run in grafts.runs.here if run.owner == id(grafts)]
    return any(run.made.issuperset(entries) for run in here) if entries else False


def _entered(
    grafts: Grafts, keys: Sequence[str], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Run grafts on the first argument, which may be given by name."""
    value = args[0] if args else kwargs[name]
    for key in keys:
        value = getattr(grafts, key)(value)
    return ((value, *args[1:]), kwargs) if args else (args, kwargs | {name: value})


def _attended(grafts: Grafts, key: str, item: str, output: Any) -> Any:
    block = getattr(grafts, key)  # which tells outer calls of the same module that it ran
    return put_item(output, item, block(get_item(output, item))) if item else block(output)


def _require_run(
    keys: Sequence[str], ran: set[str] | frozenset[str], grafts: Grafts, module: nn.Module, why: str
) -> None:
    lost = [grafts.record(key) for key in keys if key not in ran]
    if lost:
        places = ", ".join(f"{record.side} {record.site}" for record in lost)
        raise LostGraftError(
            f"attn_surgeon's grafts {places} did not run: {why}",
            f"a {type(module).__name__} whose forward was assigned to the object",
            "replace or fuse forwards before inserting, or take these grafts out with attn_surgeon.remove",
        )


def replaced(module: nn.Module, name: str) -> Callable[..., Any]:
    """Return the method of an operated module's class that an assigned one stands in for."""
    method: Callable[..., Any] = getattr(type(module), name)
    return method


def _calls_replaced(assigned: Callable[..., Any], module: nn.Module, name: str) -> bool:
    """Return whether a function holds on to the forward that it replaced on the object, as wrappers do.

    In a copy of the module, it may be that of the first one.
    """
    own: Any = replaced(module, name)
    functions = (found for found in _reachable(assigned, module) if isinstance(found, types.FunctionType))
    return any(found is own or (MARK in vars(found) and found.__code__ == own.__code__) for found in functions)


def wraps_grafts(module: nn.Module) -> bool:
    """Return whether a forward that was assigned to a module holds on to one with grafts."""
    assigned = vars(module).get("forward")
    return assigned is not None and _is_generated(assigned, module)


def _is_generated(assigned: Callable[..., Any], module: nn.Module) -> bool:
    functions = (found for found in _reachable(assigned, module) if isinstance(found, types.FunctionType))
    return any(MARK in vars(found) for found in functions)


def _is_made_of_grafts(assigned: Callable[..., Any], module: nn.Module, grafts: Grafts) -> bool:
    """Return whether an assigned forward was compiled, traced or copied of the one that it replaces, with its grafts.

    What was compiled or traced does not tell whether they run, but has them.
    """
    compiled = getattr(assigned, "_torchdynamo_orig_callable", None)
    if compiled is not None:
        return _is_generated(compiled, module)
    found = list(_reachable(assigned, module))
    if any(isinstance(item, torch._C.ScriptMethod) and RESERVED in str(item.graph) for item in found):
        return True
    others = [
        item for item in found if isinstance(item, nn.Module) and not any(part is module for part in item.modules())
    ]
    return any(_has_copies(other, grafts) for other in others)


def _has_copies(other: nn.Module, grafts: Grafts) -> bool:
    """Return whether a module has weights under the names of these grafts, as what is made of their owner does."""
    names = [name for name, _ in other.named_parameters()]
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


def _is_plain(assigned: Callable[..., Any]) -> bool:
    """Return whether a function is not compiled itself."""
    return getattr(assigned, "_torchdynamo_orig_callable", None) is None


def _may_hold(value: Any) -> bool:
    return callable(value) or type(value) in (dict, list, tuple)


def _held(function: Any, module: nn.Module) -> list[Any]:
    """List what a callable holds on to: what it is bound to, wraps or closes over, and what it names of its module."""
    if isinstance(function, (dict, list, tuple)):
        return list(function.values() if isinstance(function, dict) else function)
    if isinstance(function, types.MethodType):
        bound = function.__self__
        return [function.__func__, *([bound] if isinstance(bound, nn.Module) and bound is not module else [])]
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, types.FunctionType):
        cells = [_content(cell) for cell in function.__closure__ or ()]
        named = [vars(module).get(name) for name in function.__code__.co_names if name != "forward"]
        return [*cells, *named, *(function.__defaults__ or ()), *vars(function).values()]
    return [] if isinstance(function, (nn.Module, type)) else list(getattr(function, "__dict__", {}).values())


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None
