"""Record on a network which grafts it should have, so that its forward detects those that other code lost.

Some tools replace modules: BatchNorm by SyncBatchNorm, a convolution by one with the BatchNorm folded in, a folded
module by Identity. Each call of the network's forward compares its modules with the recorded grafts. It reinstalls a
graft at the entry or exit of a leaf module on the leaf that replaced it, and raises LostGraftError where that is not
possible, or where the graft would get another tensor than before.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import fx, nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.rewrite.grafted_yaml import guard_yaml
from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts, grafts_of, original_children
from attn_surgeon.surgery.rewrite.operated_class import install
from attn_surgeon.surgery.rewrite.operated_modules import Code, is_operated, missing_children, original_class
from attn_surgeon.surgery.rewrite.wrapper import write_wrapper

_KINDS = ("Norm", "Conv", "Linear", "Pool", "Act")
_EXPECTED = "_attn_surgeon_expected"


@dataclass
class Expected:
    """The grafts that a network should have.

    Args:
        grafts: the containers of the grafts, by the path of their owners.
        leaves: for owners without children, by path, the number of their siblings and their class. A changed number
            shows that a module was deleted from a list, so that another one has moved to the path.
        followers: the norms and activations that take the output of grafts, by path, with the graft's owner and key.
        example: the input that the network was last operated with, as meta tensors.
    """

    grafts: dict[str, Grafts]
    leaves: dict[str, tuple[int, type[nn.Module]]]
    followers: dict[str, tuple[str, str]] = field(default_factory=dict)
    example: Any = None


def expected_of(model: nn.Module) -> Expected | None:
    """Return the grafts recorded on a module; None where none are."""
    expected: Expected | None = vars(model).get(_EXPECTED)
    return expected


def remember(module: nn.Module, expected: Expected | None) -> None:
    """Record the grafts that a module should have, or delete the record."""
    vars(module).pop(_EXPECTED, None)
    if expected is not None:
        vars(module)[_EXPECTED] = expected
    guard_yaml(vars(module), grafted=expected is not None)


def expect(model: nn.Module) -> list[nn.Module]:
    """Record the grafts that a network has now, and return the modules that gained or lost such a record.

    The grafts are also recorded on the modules between the network and all of its grafts, because these may be used
    alone, such as a network in a wrapper.
    """
    grafts = {path: own for path, module in model.named_modules() if (own := _grafts_to_check(module)) is not None}
    before = {path: module for path, module in model.named_modules() if expected_of(module) is not None}
    above = {path: model.get_submodule(path) for path in _above(grafts)}
    recording = before | {path: module for path, module in above.items() if _has_forward(module)}
    for path, module in recording.items():
        below = {_relative(owner, path): own for owner, own in grafts.items() if _is_below(owner, path)}
        previous = expected_of(module)
        remember(module, _expected(module, path, below, previous and previous.example) if below else None)
    return [module for path, module in recording.items() if (path in before) != (expected_of(module) is not None)]


def _has_forward(module: nn.Module) -> bool:
    """Return whether a module has a Python forward, which can be replaced by a generated one."""
    fixed = isinstance(module, (fx.GraphModule, torch.jit.ScriptModule))
    return not fixed and original_class(module).forward is not nn.Module.forward


def _grafts_to_check(module: nn.Module) -> Grafts | None:
    """Return the grafts that the class of a module runs; None for a GraphModule, whose graph keeps them."""
    return None if isinstance(module, fx.GraphModule) else grafts_of(module)


def _above(owners: Collection[str]) -> list[str]:
    """Return the paths of the modules that contain all owners of grafts, from the network downwards."""
    path, above = "", []
    while owners and path not in owners and all(_is_below(owner, path) for owner in owners):
        above.append(path)
        rest = _relative(next(iter(owners)), path)
        path = f"{path}.{rest.partition('.')[0]}".removeprefix(".")
    return above or [""] * bool(owners)


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
        for owner, own in grafts.items()
        for key in own
        for follower in own.record(key).followers
        if _is_below(follower, path) and not _is_folded(_module_at(module, _relative(follower, path)))
    }
    return Expected(dict(grafts), leaves, followers, example)


def remembered(module: nn.Module) -> list[Any]:
    """Return the records of the grafts that a module should have."""
    expected = expected_of(module)
    containers = expected.grafts.values() if expected is not None else ()
    return [grafts.record(key) for grafts in containers for key in grafts if key not in grafts.dropped]


def forget(module: nn.Module, chosen: Callable[[Any], bool]) -> list[Any]:
    """Mark the chosen grafts of a module as dropped, and return their records."""
    expected = expected_of(module)
    dropped: list[Any] = []
    for grafts in expected.grafts.values() if expected is not None else ():
        keys = [key for key in grafts if key not in grafts.dropped and chosen(grafts.record(key))]
        grafts.dropped.update(keys)
        dropped += [grafts.record(key) for key in keys]
    return dropped


def require_expected(model: nn.Module) -> None:
    """Reinstall the grafts whose leaf module was replaced; raise LostGraftError where a graft is lost."""
    expected = expected_of(model)
    if expected is None:
        return
    for path, grafts in list(expected.grafts.items()):
        module = _module_at(model, path)
        if module is None or not _runs(module, grafts):
            _recover(model, expected, path)
        elif missing := missing_children(module):
            raise _lost(path, grafts, f"their forward calls '{min(missing)}', which is not there any more")
    for follower, (owner, key) in expected.followers.items():
        if _is_folded(_module_at(model, follower)) and key not in expected.grafts[owner].dropped:
            raise _lost(owner, expected.grafts[owner], f"'{follower}', after one, was folded into a layer before it")


# What torch.compiler.assume_constant_result sets, whose import is slow: torch.compile runs the check while it compiles.
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
    """Return whether a module has these grafts, those dropped excepted, and a class that runs them."""
    child = module._modules.get(RESERVED)
    if child is not grafts and not _is_copy(child, grafts):
        return grafts.dropped.issuperset(grafts._modules)
    return is_operated(module)


def _is_copy(child: nn.Module | None, grafts: Grafts) -> bool:
    """Return whether a child is another container of the same grafts: of a copied module, or after a removal."""
    if not isinstance(child, Grafts) or child.runs is not grafts.runs:
        return False
    return all(key in child._modules or key in grafts.dropped for key in grafts)


def _recover(model: nn.Module, expected: Expected, path: str) -> None:
    """Find grafts whose owner moved to another path, or install them on the module that replaced it; else raise."""
    grafts = expected.grafts[path]
    kept, module = grafts.kept(), _module_at(model, path)
    owners = [other for other, owner in model.named_modules() if owner._modules.get(RESERVED) is grafts]
    moved = [other for other in owners if _runs(model.get_submodule(other), grafts)]
    if not kept:
        return
    if moved:  # other code has wrapped the owner
        renamed = {path: moved[0]}
        expected.grafts = {renamed.get(owner, owner): own for owner, own in expected.grafts.items()}
        followers = expected.followers.items()
        expected.followers = {name: (renamed.get(owner, owner), key) for name, (owner, key) in followers}
    elif module is not None and _is_replaced(model, expected, path) and not any(_is_inside(kept, key) for key in kept):
        put_around(module, kept)
    else:
        what = "is not there any more" if module is None else f"is another one now, a {type(module).__name__}"
        raise _lost(path, grafts, f"the module that they belong to {what}")


def _siblings(model: nn.Module, path: str) -> int:
    parent = _module_at(model, path.rpartition(".")[0])
    return 0 if parent is None else len(original_children(parent))


def _is_replaced(model: nn.Module, expected: Expected, path: str) -> bool:
    """Return whether the module at a leaf's path replaced it, rather than has other grafts or moved there in a list."""
    module = _module_at(model, path)
    if module is None:
        return False
    grafts = grafts_of(module)
    unowned = grafts is None or grafts.runs is expected.grafts[path].runs
    siblings, cls = expected.leaves.get(path, (-1, nn.Module))
    return unowned and siblings == _siblings(model, path) and _can_replace(cls, original_class(module))


def _can_replace(old: type[nn.Module], new: type[nn.Module]) -> bool:
    """Return whether a class is a plausible replacement of another: a norm of a norm, an Identity of anything."""
    kinds = [{kind for kind in _KINDS if kind in cls.__name__} for cls in (old, new)]
    activations = all(cls.__module__ == "torch.nn.modules.activation" for cls in (old, new))
    return new is nn.Identity or new is old or activations or bool(kinds[0] & kinds[1])


def is_leaf(module: nn.Module) -> bool:
    """Return whether a module has no children but its grafts."""
    return not original_children(module)


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
