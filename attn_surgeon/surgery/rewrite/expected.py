"""The grafts that a network was given, so that one which other code loses is missed.

Some tools put new modules in the place of old ones: SyncBatchNorm for BatchNorm, a convolution with the BatchNorm
folded in, an Identity for what was folded. The network that was operated on remembers its grafts, by the path of
their owners. Each call of its forward puts a graft at a leaf's entry or exit onto the leaf that took its place, and
raises LostGraftError where that cannot be, or where the graft would work on something else than before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts, grafts_of, own_children
from attn_surgeon.surgery.rewrite.operated import Code, install, is_operated, missing_children, original_class
from attn_surgeon.surgery.rewrite.wrapper import write_wrapper

_KINDS = ("Norm", "Conv", "Linear", "Pool", "Act")
_EXPECTED = "_attn_surgeon_expected"


@dataclass
class Expected:
    """The containers of a network's grafts, by the path of the module that owns them.

    `leaves` are those paths at which a module without children of its own was, with the number of its parent's
    children and its class: in a list from which one was deleted, another moves up. `followers` are the norms and
    activations that grafts feed, by path, each with an owner and a key; `example` is the input that the network was
    last operated with, as meta tensors.
    """

    grafts: dict[str, Grafts]
    leaves: dict[str, tuple[int, type[nn.Module]]]
    followers: dict[str, tuple[str, str]] = field(default_factory=dict)
    example: Any = None


def expected_of(model: nn.Module) -> Expected | None:
    """Return what a network remembers of its grafts; None where it was not operated on as a whole."""
    expected: Expected | None = vars(model).get(_EXPECTED)
    return expected


def remember(module: nn.Module, expected: Expected | None) -> None:
    """Record these grafts on a module, or none."""
    vars(module).pop(_EXPECTED, None)
    if expected is not None:
        vars(module)[_EXPECTED] = expected


def expect(model: nn.Module) -> list[nn.Module]:
    """Record the grafts that a network has now, and return the modules that begin or cease to do so.

    So do the modules between it and all of its grafts, for these may be used alone, such as a network in a wrapper.
    """
    found = {path: held for path, module in model.named_modules() if (held := _held(module)) is not None}
    before = {path: module for path, module in model.named_modules() if expected_of(module) is not None}
    above = {path: model.get_submodule(path) for path in _above(found)}
    looking = before | {path: module for path, module in above.items() if _has_forward(module)}
    for path, module in looking.items():
        below = {_relative(other, path): held for other, held in found.items() if _is_below(other, path)}
        known = expected_of(module)
        remember(module, _expected(module, path, below, known and known.example) if below else None)
    return [module for path, module in looking.items() if (path in before) != (expected_of(module) is not None)]


def _has_forward(module: nn.Module) -> bool:
    """Return whether a module has a forward of its own that may be another one."""
    fixed = isinstance(module, (fx.GraphModule, torch.jit.ScriptModule))
    return not fixed and original_class(module).forward is not nn.Module.forward


def _held(module: nn.Module) -> Grafts | None:
    """Return the grafts that a module's class runs, if any; a graph module's graph needs no looking after."""
    return None if isinstance(module, fx.GraphModule) else grafts_of(module)


def _above(owners: Collection[str]) -> list[str]:
    """List the paths from a network down to the last module that has all owners of grafts in it, without these."""
    path, found = "", []
    while owners and path not in owners and all(_is_below(owner, path) for owner in owners):
        found.append(path)
        rest = _relative(next(iter(owners)), path)
        path = f"{path}.{rest.partition('.')[0]}".removeprefix(".")
    return found or [""] * bool(owners)


def _is_below(path: str, other: str) -> bool:
    return not other or path == other or path.startswith(f"{other}.")


def _relative(path: str, other: str) -> str:
    return path[len(other) :].removeprefix(".") if other else path


def _expected(module: nn.Module, path: str, grafts: Mapping[str, Grafts], example: Any) -> Expected:
    owners = {owner: module.get_submodule(owner) for owner in grafts}
    leaves = {
        path: (_siblings(module, path), original_class(owner)) for path, owner in owners.items() if is_leaf(owner)
    }
    followers = {
        _relative(follower, path): (owner, key)
        for owner, held in grafts.items()
        for key in held
        for follower in held.record(key).followers
        if _is_below(follower, path) and not _is_folded(_module_at(module, _relative(follower, path)))
    }
    return Expected(dict(grafts), leaves, followers, example)


def remembered(module: nn.Module) -> list[Any]:
    """List what is known of the grafts that a network remembers."""
    expected = expected_of(module)
    held = expected.grafts.values() if expected is not None else ()
    return [grafts.record(key) for grafts in held for key in grafts if key not in grafts.dropped]


def forget(module: nn.Module, chosen: Callable[[Any], bool]) -> list[Any]:
    """Delete the chosen grafts from a network's record, and return them."""
    expected = expected_of(module)
    found: list[Any] = []
    for grafts in expected.grafts.values() if expected is not None else ():
        keys = [key for key in grafts if key not in grafts.dropped and chosen(grafts.record(key))]
        grafts.dropped.update(keys)
        found += [grafts.record(key) for key in keys]
    return found


def require_expected(model: nn.Module) -> None:
    """Restore the grafts whose leaf was replaced; raise LostGraftError where one is lost."""
    expected = expected_of(model)
    if expected is None:
        return
    for path, grafts in list(expected.grafts.items()):
        module = _module_at(model, path)
        if module is None or not _runs(module, grafts):
            _recover(model, expected, path)
        elif gone := missing_children(module):
            raise _lost(path, grafts, f"their forward calls '{min(gone)}', which is not there any more")
    for follower, (owner, key) in expected.followers.items():
        if _is_folded(_module_at(model, follower)) and key not in expected.grafts[owner].dropped:
            raise _lost(owner, expected.grafts[owner], f"'{follower}', behind one, was folded into what is before it")


# torch.compile runs it once, as it compiles: what torch.compiler.assume_constant_result sets, which is slow to import
vars(require_expected)["_dynamo_marked_constant"] = True


def _module_at(model: nn.Module, path: str) -> nn.Module | None:
    module: nn.Module | None = model
    for name in _names(path):
        if module is None:
            break
        module = module._modules.get(name)
    return module


@cache
def _names(path: str) -> tuple[str, ...]:
    return tuple(path.split(".")) if path else ()


def _is_folded(module: nn.Module | None) -> bool:
    return module is None or isinstance(module, nn.Identity)


def _runs(module: nn.Module, grafts: Grafts) -> bool:
    """Return whether a module has these grafts, but for those dropped, and a class that runs them."""
    own = module._modules.get(RESERVED)
    if own is not grafts and not _is_copy(own, grafts):
        return grafts.dropped.issuperset(grafts._modules)
    return is_operated(module)


def _is_copy(own: nn.Module | None, grafts: Grafts) -> bool:
    """Return whether a container is another one of the same grafts, such as that of a copy or after a removal."""
    if not isinstance(own, Grafts) or own.runs is not grafts.runs:
        return False
    return all(key in own._modules or key in grafts.dropped for key in grafts)


def _recover(model: nn.Module, expected: Expected, path: str) -> None:
    """Find grafts again under another path, or put them onto what took the place of their leaf; else raise."""
    grafts = expected.grafts[path]
    kept, module = grafts.kept(), _module_at(model, path)
    owners = [other for other, owner in model.named_modules() if owner._modules.get(RESERVED) is grafts]
    moved = [other for other in owners if _runs(model.get_submodule(other), grafts)]
    if not kept:
        return
    if moved:  # another tool has wrapped the owner
        expected.grafts = {moved[0] if other == path else other: held for other, held in expected.grafts.items()}
    elif module is not None and _is_replaced(model, expected, path) and not any(_is_inside(kept, key) for key in kept):
        put_around(module, kept)
    else:
        what = "is not there any more" if module is None else f"is another one now, a {type(module).__name__}"
        raise _lost(path, grafts, f"the module that held them {what}")


def _siblings(model: nn.Module, path: str) -> int:
    parent = _module_at(model, path.rpartition(".")[0])
    return 0 if parent is None else len(own_children(parent))


def _is_replaced(model: nn.Module, expected: Expected, path: str) -> bool:
    """Return whether what is at a leaf's path took its place, rather than came with grafts or moved up in a list."""
    module = _module_at(model, path)
    own = None if module is None else grafts_of(module)
    ours = own is None or own.runs is expected.grafts[path].runs
    siblings, cls = expected.leaves.get(path, (-1, nn.Module))
    return module is not None and ours and siblings == _siblings(model, path) and _is_like(cls, original_class(module))


def _is_like(old: type[nn.Module], new: type[nn.Module]) -> bool:
    """Return whether a class may stand where another did: a norm for a norm, an Identity for anything."""
    kinds = [{kind for kind in _KINDS if kind in cls.__name__} for cls in (old, new)]
    activations = all(cls.__module__ == "torch.nn.modules.activation" for cls in (old, new))
    return new is nn.Identity or new is old or activations or bool(kinds[0] & kinds[1])


def is_leaf(module: nn.Module) -> bool:
    """Return whether a module has no children of its own."""
    return not own_children(module)


def _is_inside(grafts: Grafts, key: str) -> bool:
    return bool(grafts.record(key).placement.kind == "edge")


def put_around(module: nn.Module, grafts: Grafts) -> None:
    """Install grafts at a module's entry and exit, in place."""
    places = {key: grafts.record(key).placement for key in grafts}
    source, names = write_wrapper(original_class(module).forward, "_original.forward", places, [])
    install(module, grafts, Code({"forward": source}, names, frozenset(grafts)))


def _lost(owner: str, grafts: Grafts, why: str) -> LostGraftError:
    kept = [grafts.record(key) for key in grafts if key not in grafts.dropped]
    return LostGraftError(
        f"attn_surgeon's grafts {', '.join(f'{record.side} {record.site}' for record in kept)} are lost: {why}",
        owner,
        "change or fuse the network before inserting; to go on without them, call attn_surgeon.remove for these sites",
    )
