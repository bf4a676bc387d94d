"""Forwards that other code assigns to an operated module: `m.forward = m.forward_fuse`, `types.MethodType`, wrappers.

A method of an operated class is a data descriptor, so what is assigned to the object does not hide it. An assigned
forward runs with the grafts at the module's entry and exit around it, each exactly once: where it calls the forward
that it replaced, as wrappers do, they run in there. A graft inside a forward that was replaced cannot be kept; where
it did not run in the call, LostGraftError is raised.
"""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Sequence
from typing import Any

from torch import nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.graph.forwards.grafts import Grafts, Run, grafts_of
from attn_surgeon.graph.forwards.items import get_item, put_item
from attn_surgeon.graph.forwards.signature import first_parameter

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
    wrapper = bool(entries) and _calls_replaced(assigned, module, name)
    first = [] if wrapper or _made(grafts, entries) else entries
    if first:
        args, kwargs = _entered(grafts, first, first_parameter(replaced(module, name)), args, kwargs)
    with grafts.runs.watched(frozenset(first)) as run:
        output = assigned(*args, **kwargs)
    if name == "forward":
        for key in [key for key, kind in kinds.items() if kind == "exit" and key not in run.taken]:
            output = _attended(grafts, key, places[key].item, output)
    inside = [key for key, place in places.items() if place.kind == "edge" and name in ("forward", place.method)]
    _require_run([*inside, *(entries if wrapper else ())], run, grafts, module)
    return output


def _made(grafts: Grafts, entries: Sequence[str]) -> bool:
    """Return whether an outer call of the same module ran the grafts at its entry already."""
    return any(run.made.issuperset(entries) for run in grafts.runs.here) if entries else False


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


def _require_run(keys: Sequence[str], run: Run, grafts: Grafts, module: nn.Module) -> None:
    lost = [grafts.record(key) for key in keys if key not in run.taken | run.made]
    if lost:
        places = ", ".join(f"{record.side} {record.site}" for record in lost)
        raise LostGraftError(
            f"the grafts {places} did not run: the forward they are in was replaced by another one",
            f"a {type(module).__name__} whose forward was assigned to the object",
            "replace or fuse forwards before inserting, or take these grafts out with attn_surgeon.remove",
        )


def replaced(module: nn.Module, name: str) -> Callable[..., Any]:
    """Return the method of an operated module's class that an assigned one stands in for."""
    method: Callable[..., Any] = getattr(type(module), name)
    return method


def _calls_replaced(assigned: Callable[..., Any], module: nn.Module, name: str) -> bool:
    """Return whether a function holds on to the forward that it replaced on the object, as wrappers do."""
    return _reaches(assigned, module, replaced(module, name).__eq__)


def wraps_grafts(module: nn.Module) -> bool:
    """Return whether a forward that was assigned to a module holds on to one with grafts."""
    assigned = vars(module).get("forward")
    return assigned is not None and _reaches(assigned, module, lambda found: MARK in getattr(found, "__dict__", ()))


def _reaches(assigned: Callable[..., Any], module: nn.Module, wanted: Callable[[Any], object]) -> bool:
    """Return whether a function holds on to another one, at any depth."""
    seen: set[int] = set()
    waiting: list[tuple[Any, int]] = [(assigned, 0)]
    while waiting:
        found, depth = waiting.pop()
        if isinstance(found, types.FunctionType) and wanted(found) is True:
            return True
        if id(found) not in seen and depth < _DEEPEST:
            seen.add(id(found))
            waiting += [(part, depth + 1) for part in _held(found, module) if callable(part)]
    return False


def _held(function: Any, module: nn.Module) -> list[Any]:
    """List what a callable holds on to: what it is bound to, wraps or closes over, and what it names of its module."""
    if isinstance(function, types.MethodType):
        return [function.__func__]
    if isinstance(function, functools.partial):
        return [function.func, *function.args, *function.keywords.values()]
    if isinstance(function, types.FunctionType):
        cells = [_content(cell) for cell in function.__closure__ or ()]
        named = [vars(module).get(name) for name in function.__code__.co_names if name != "forward"]
        return [*cells, *named, *(function.__defaults__ or ()), getattr(function, "__wrapped__", None)]
    return [] if isinstance(function, (nn.Module, type)) else list(getattr(function, "__dict__", {}).values())


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None
