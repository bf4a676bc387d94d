"""Forwards that other code assigns to an operated module: `m.forward = m.forward_fuse`, `types.MethodType`, wrappers.

A method of an operated class is a data descriptor, so what is assigned to the object does not hide it. An assigned
forward runs with the grafts at the module's entry and exit around it, each exactly once: where it calls the forward
that it replaced, as wrappers do, they run in there. A graft inside a forward that was replaced cannot be kept; where
it did not run in the call, LostGraftError is raised.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.rewrite.grafts import Grafts, grafts_of
from attn_surgeon.surgery.rewrite.held import held, replaced
from attn_surgeon.surgery.rewrite.items import get_item, put_item
from attn_surgeon.surgery.rewrite.signature import first_parameter


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
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break(
                msg="a forward was assigned to a module with attn_surgeon's grafts, which are watched as it runs; "
                "compile without fullgraph=True"
            )
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
    found = held(assigned, module, name, grafts)
    wrapper = found.wrapper
    if found.opaque and not wrapper:
        return assigned(*args, **kwargs)
    if found.copies and not wrapper:
        with _watched_copies(found.copies, grafts) as ran:
            output = assigned(*args, **kwargs)
        why = "the forward they are in has a copy of them that it did not run"
        _require_run([*entries, *inside, *exits], ran, grafts, module, why)
        return output
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


@contextmanager
def _watched_copies(copies: Sequence[Grafts], grafts: Grafts) -> Iterator[set[str]]:
    """Watch which grafts run, a module's own or those of copies of it; the set names them afterwards."""
    ran: set[str] = set()
    with ExitStack() as stack:
        runs = [stack.enter_context(each.runs.watched(each)) for each in (grafts, *copies)]
        yield ran
    ran.update(key for run in runs for key in run.ran(grafts, copies=True))


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
