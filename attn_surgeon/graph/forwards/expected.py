"""The grafts that a network was given, so that one which other code loses is missed.

Some tools put new modules in the place of old ones: SyncBatchNorm for BatchNorm, a convolution with the BatchNorm
folded in, an Identity for what was folded. The network that was operated on remembers its grafts, by the path of
their owners. Each call of its forward puts a graft at a leaf's entry or exit onto the leaf that took its place, and
raises LostGraftError where that cannot be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.graph.forwards.grafts import RESERVED, Grafts, grafts_of, own_children
from attn_surgeon.graph.forwards.operated import Code, is_operated, operate, original_class
from attn_surgeon.graph.forwards.wrapper import write_wrapper

_EXPECTED = "_attn_surgeon_expected"


@dataclass
class Expected:
    """The containers of a network's grafts, by the path of the module that owns them.

    `leaves` are those paths at which a module without children of its own was; `example` is the input that the
    network was last operated with, as meta tensors.
    """

    grafts: dict[str, Grafts] = field(default_factory=dict)
    leaves: set[str] = field(default_factory=set)
    example: Any = None


def expected_of(model: nn.Module) -> Expected | None:
    """Return what a network remembers of its grafts; None where it was not operated on as a whole."""
    expected: Expected | None = vars(model).get(_EXPECTED)
    return expected


def expect(model: nn.Module) -> None:
    """Let a network remember the grafts it has now; without any, it forgets."""
    grafts = {
        path: found
        for path, module in model.named_modules()
        if (found := grafts_of(module)) is not None and not isinstance(module, fx.GraphModule)
    }
    leaves = {path for path in grafts if is_leaf(model.get_submodule(path))}
    known = expected_of(model)
    remember(model, Expected(grafts, leaves, known and known.example) if grafts else None)


def remember(module: nn.Module, expected: Expected | None) -> None:
    """Let a module remember these grafts, or none."""
    vars(module).pop(_EXPECTED, None)
    if expected is not None:
        vars(module)[_EXPECTED] = expected


def forget(module: nn.Module, chosen: Callable[[Any], bool]) -> list[Any]:
    """Let a network forget the chosen grafts, and list them."""
    expected = expected_of(module)
    found: list[Any] = []
    for grafts in expected.grafts.values() if expected is not None else ():
        keys = [key for key in grafts if key not in grafts.dropped and chosen(grafts.record(key))]
        grafts.dropped.update(keys)
        found += [grafts.record(key) for key in keys]
    return found


def is_leaf(module: nn.Module) -> bool:
    """Return whether a module has no children of its own."""
    return not own_children(module)


def require_expected(model: nn.Module) -> None:
    """Put back the grafts whose leaf was replaced; raise LostGraftError where one is lost."""
    expected = expected_of(model)
    if expected is None or torch.compiler.is_compiling():
        return
    for path, grafts in expected.grafts.items():
        if not _runs(_module_at(model, path), grafts):
            _recover(model, path)


def _module_at(model: nn.Module, path: str) -> nn.Module | None:
    module: nn.Module | None = model
    for name in path.split(".") if path else ():
        module = module._modules.get(name) if module is not None else None
    return module


def _runs(module: nn.Module | None, grafts: Grafts) -> bool:
    """Return whether a module has these grafts and a class that runs them."""
    own = None if module is None else module._modules.get(RESERVED)
    if module is None or own is None:
        return grafts.dropped.issuperset(grafts._modules)
    if own is not grafts and any(key not in own._modules and key not in grafts.dropped for key in grafts._modules):
        return False
    return is_operated(module)


def _recover(model: nn.Module, path: str) -> None:
    """Find grafts again under another path, or put them onto what took the place of their leaf; else raise."""
    expected = expected_of(model)
    assert expected is not None
    grafts = expected.grafts[path].kept()
    owned = {other: module for other, module in model.named_modules() if _holds(module, expected.grafts[path])}
    moved = [other for other, owner in owned.items() if _runs(owner, grafts)]
    module = _module_at(model, path)
    if moved:  # another tool has wrapped the owner
        expected.grafts = {moved[0] if other == path else other: kept for other, kept in expected.grafts.items()}
    elif module is not None and path in expected.leaves and not any(_inside(grafts, key) for key in grafts):
        put_around(module, grafts)
    else:
        raise lost(model, path, [grafts.record(key) for key in grafts])


def _holds(module: nn.Module, grafts: Grafts) -> bool:
    return module._modules.get(RESERVED) is grafts


def _inside(grafts: Grafts, key: str) -> bool:
    return bool(grafts.record(key).placement.kind == "edge")


def put_around(module: nn.Module, grafts: Grafts) -> None:
    """Give a module grafts at its entry and exit, in place."""
    places = {key: grafts.record(key).placement for key in grafts}
    source, names = write_wrapper(original_class(module).forward, "_original.forward", places, [])
    operate(module, grafts, Code({"forward": source}, names, frozenset(grafts)))


def lost(model: nn.Module, path: str, records: list[Any]) -> LostGraftError:
    """Return the error for grafts that went with the module that held them."""
    module = _module_at(model, path)
    places = ", ".join(f"{record.side} {record.site}" for record in records)
    what = "is not there any more" if module is None else f"is another one now, a {type(module).__name__}"
    return LostGraftError(
        f"the grafts {places} are lost: the module that held them {what}",
        path,
        "change or fuse the network before inserting; to go on without them, call attn_surgeon.remove for these sites",
    )
