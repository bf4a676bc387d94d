"""Keep grafts where other code assigns a forward to an operated module: `m.forward = m.forward_fuse`, wrappers, …

A method of an operated class is a data descriptor, so an attribute of the object does not hide it. The assigned forward
runs with the grafts at the module's entry and exit around it, each exactly once: where it calls the forward that it
replaced, as wrappers do, they run in there. A graft inside the replaced forward cannot be kept; where it did not run in
the call, LostGraftError is raised. Where the assigned method is the fused forward of a layer whose norm was folded, the
same forward with the grafts inside it runs instead (`folding.py`).
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.rewrite.grafts import Grafts, grafts_of
from attn_surgeon.surgery.rewrite.output_items import get_item, put_item
from attn_surgeon.surgery.rewrite.references import find_references, replaced_method
from attn_surgeon.surgery.rewrite.signature import first_parameter

FOLDED = "_folded_"  # the start of the name of a generated method that runs in place of a fused forward


class Method:
    """A data descriptor for a method of an operated class, which wraps the method assigned to the object, if any."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name, self.function = name, function

    def __get__(self, module: nn.Module | None, owner: type | None = None) -> Callable[..., Any]:
        if module is None:
            return self.function
        assigned = vars(module).get(self.name)
        if assigned is None:
            bound: Callable[..., Any] = self.function.__get__(module)  # torch.compile cannot trace types.MethodType(…)
            return bound
        if torch.compiler.is_compiling():
            torch._dynamo.graph_break(
                msg="a forward was assigned to a module with attn_surgeon's grafts, which must be recorded as it runs; "
                "compile without fullgraph=True"
            )
        return types.MethodType(AssignedMethod(self.name, assigned), module)

    def __set__(self, module: nn.Module, value: Callable[..., Any]) -> None:
        vars(module)[self.name] = value

    def __delete__(self, module: nn.Module) -> None:
        try:
            del vars(module)[self.name]
        except KeyError:
            raise AttributeError(self.name) from None


class AssignedMethod:
    """A method that was assigned to an operated module, with the module's grafts around it."""

    def __init__(self, name: str, assigned: Callable[..., Any]) -> None:
        self.name, self.__wrapped__ = name, assigned  # inspect.unwrap and inspect.signature follow __wrapped__
        self.__name__ = getattr(assigned, "__name__", name)

    def __call__(self, module: nn.Module, /, *args: Any, **kwargs: Any) -> Any:
        return run_assigned(module, self.name, self.__wrapped__, args, kwargs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AssignedMethod) and self.__wrapped__ == other.__wrapped__

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    @property
    def __signature__(self) -> inspect.Signature:
        signature = inspect.signature(self.__wrapped__)
        self_parameter = inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY)
        return signature.replace(parameters=[self_parameter, *signature.parameters.values()])


@dataclass(frozen=True)
class _Keys:
    """The keys of the grafts that a method runs: at its entry, inside it, and at its exit."""

    entries: tuple[str, ...]
    edges: tuple[str, ...]
    exits: tuple[str, ...]

    @classmethod
    def of(cls, grafts: Grafts, method: str) -> Self:
        places = {key: grafts.record(key).placement for key in grafts}
        wraps = method == "forward"
        return cls(
            tuple(key for key, place in places.items() if wraps and place.kind == "entry"),
            tuple(key for key, place in places.items() if place.kind == "edge" and (wraps or method == place.method)),
            tuple(key for key, place in places.items() if wraps and place.kind == "exit"),
        )

    @property
    def all(self) -> tuple[str, ...]:
        return (*self.entries, *self.edges, *self.exits)


def run_assigned(
    module: nn.Module, name: str, assigned: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Run a method that was assigned to an operated module, with the module's grafts, each once.

    Raises LostGraftError where a graft inside the method that it replaced did not run.
    """
    grafts = grafts_of(module)
    if grafts is None or len(grafts) == 0:
        return assigned(*args, **kwargs)
    keys = _Keys.of(grafts, name)
    if (folded := _folded_forward(module, assigned)) is not None:
        return _run_replacement(module, name, folded, keys, args, kwargs)
    references = find_references(assigned, module, name, grafts)
    if references.wrapper:
        with grafts.runs.watched(grafts) as run:
            output = assigned(*args, **kwargs)
        ran = run.ran(grafts, copies=True)
        _require_run(keys.all, ran, grafts, module, "a wrapper did not call the forward that it wraps")
        return output
    if references.opaque:  # compiled or traced with the grafts in it
        return assigned(*args, **kwargs)
    if references.copies:
        with _watched_copies(references.copies, grafts) as ran:
            output = assigned(*args, **kwargs)
        why = "the forward they are in has a copy of them that it did not run"
        _require_run(keys.all, ran, grafts, module, why)
        return output
    return _run_replacement(module, name, assigned, keys, args, kwargs)


def _folded_forward(module: nn.Module, assigned: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return the generated method that computes a fused forward of the module's class with the grafts inside it."""
    if not isinstance(assigned, types.MethodType) or assigned.__self__ is not module:
        return None
    name = assigned.__func__.__name__
    is_own = getattr(type(module), name, None) is assigned.__func__
    return getattr(module, FOLDED + name, None) if is_own else None


def _run_replacement(
    module: nn.Module,
    name: str,
    assigned: Callable[..., Any],
    keys: _Keys,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Run a method that has no reference to the one it replaced, with the grafts at the entry and exit around it."""
    grafts = grafts_of(module) or Grafts()
    entries = () if _ran_in_outer_call(grafts, keys.entries) else keys.entries
    if entries:
        args, kwargs = _run_entries(grafts, entries, first_parameter(replaced_method(module, name)), args, kwargs)
    with grafts.runs.watched(grafts, frozenset(entries)) as run:
        output = assigned(*args, **kwargs)
    ran = run.ran(grafts, copies=False) | run.before
    for key in keys.exits:
        if key not in ran:
            output = _run_exit(grafts, key, output)
    _require_run(keys.edges, ran, grafts, module, "the forward they are in was replaced by another one")
    return output


@contextmanager
def _watched_copies(copies: Sequence[Grafts], grafts: Grafts) -> Iterator[set[str]]:
    """Record which grafts of a module, or of copies of it, run; the yielded set has their keys after the context."""
    ran: set[str] = set()
    with ExitStack() as stack:
        runs = [stack.enter_context(container.runs.watched(container)) for container in (grafts, *copies)]
        yield ran
    ran.update(key for run in runs for key in run.ran(grafts, copies=True))


def _ran_in_outer_call(grafts: Grafts, entries: Collection[str]) -> bool:
    """Return whether an outer call of the same module already ran the grafts at its entry."""
    outer = [run for run in grafts.runs.in_thread if run.owner == id(grafts)]
    return bool(entries) and any(run.before.issuperset(entries) for run in outer)


def _run_entries(
    grafts: Grafts, keys: Sequence[str], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Run grafts on the first argument, which may be passed by keyword; return the new arguments."""
    value = args[0] if args else kwargs[name]
    for key in keys:
        value = getattr(grafts, key)(value)
    return ((value, *args[1:]), kwargs) if args else (args, kwargs | {name: value})


def _run_exit(grafts: Grafts, key: str, output: Any) -> Any:
    item = grafts.record(key).placement.item
    block = getattr(grafts, key)  # Grafts.__getattr__ records the run for outer calls of the same module
    return put_item(output, item, block(get_item(output, item))) if item else block(output)


def _require_run(keys: Sequence[str], ran: Collection[str], grafts: Grafts, module: nn.Module, why: str) -> None:
    lost = [grafts.record(key) for key in keys if key not in ran]
    if lost:
        places = ", ".join(f"{record.side} {record.site}" for record in lost)
        raise LostGraftError(
            f"attn_surgeon's grafts {places} did not run: {why}",
            f"a {type(module).__name__} whose forward was assigned to the object",
            "replace or fuse forwards before inserting, or remove these grafts with attn_surgeon.remove",
        )
