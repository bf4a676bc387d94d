"""What the class of a module with grafts is: its original class, its generated methods and what they call."""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from torch import nn

from attn_surgeon.surgery.rewrite.assigned_forwards import Method
from attn_surgeon.surgery.rewrite.grafts import grafts_of

BASE, CODE = "_attn_surgeon_base", "_attn_surgeon_code"  # attributes of a generated class
GUARD = "_require_expected"  # the name of `require_expected` in generated code
set_class: Callable[[object, type], None] = vars(object)["__class__"].__set__
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True, eq=False)
class Code:
    """Generated methods.

    Args:
        sources: the source of each method.
        names: the globals that the sources need.
        keys: the keys of the grafts that the sources call.
        children: the names of the children that the sources call, in train (True) and in eval mode (False).
        folded: the source of the forward that runs in place of the fused one which other code assigns, by its name.
    """

    sources: Mapping[str, str]
    names: Mapping[str, Any]
    keys: frozenset[str] = frozenset()
    children: Mapping[bool, frozenset[str]] = field(default_factory=dict)
    folded: Mapping[str, str] = field(default_factory=dict)

    def __deepcopy__(self, memo: object) -> Code:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        modules = {key: item.__name__ for key, item in self.names.items() if isinstance(item, types.ModuleType)}
        others = {key: item for key, item in self.names.items() if key not in modules}
        return code_from_parts, (dict(self.sources), modules, others, self.keys, dict(self.children), dict(self.folded))


def code_from_parts(sources: dict[str, str], modules: dict[str, str], others: dict[str, Any], *rest: Any) -> Code:
    """Rebuild generated methods from what a pickle holds, with the names of modules."""
    return Code(sources, others | {key: import_module(name) for key, name in modules.items()}, *rest)


def operated_base(cls: type) -> type[nn.Module] | None:
    """Return the operated class among a class and its bases, since other tools subclass it; None without one."""
    return next((base for base in cls.__mro__ if BASE in vars(base)), None)


def is_operated(module: nn.Module) -> bool:
    """Return whether a module's class runs grafts: it was generated, and its forward was not replaced on the class."""
    cls = type(module)
    operated = cls if BASE in vars(cls) else operated_base(cls)
    return operated is not None and isinstance(vars(operated)["forward"], Method)


def runs_key(module: nn.Module, key: str) -> bool:
    """Return whether a module's class runs the graft of this key."""
    return is_operated(module) and key in code_of(module).keys


def missing_children(module: nn.Module) -> frozenset[str]:
    """Return the names of children that the generated methods of a module call and that it does not have any more."""
    called = code_of(module).children.get(module.training, _NONE) if is_operated(module) else _NONE
    return _NONE if called <= module._modules.keys() or folded_children(module) else called - module._modules.keys()


def folded_children(module: nn.Module) -> frozenset[str]:
    """Return the names of children that were folded into others, so that a fused forward was assigned to the module."""
    if "forward" not in vars(module) or not is_operated(module) or not code_of(module).folded:
        return _NONE
    return code_of(module).children.get(False, _NONE) - module._modules.keys()


def original_class(module: nn.Module) -> type[nn.Module]:
    """Return the class of a module without grafts; subclasses that other tools made since are kept."""
    return _without(type(module))


def _without(cls: type[nn.Module]) -> type[nn.Module]:
    operated = operated_base(cls)
    if operated is None:
        return cls
    base: type[nn.Module] = vars(operated)[BASE]
    return base if cls is operated else rebased(cls, operated, base)


def rebased(cls: type[Any], old: type, new: type) -> Any:
    """Rebuild a class with one of its bases, direct or not, replaced by another."""
    if cls is old:
        return new
    if old not in cls.__mro__:
        return cls
    namespace = {name: item for name, item in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    metaclass: Any = type(cls)
    return metaclass(cls.__name__, tuple(rebased(base, old, new) for base in cls.__bases__), namespace)


def code_of(module: nn.Module) -> Code:
    """Return the generated methods of an operated module."""
    code: Code = getattr(type(module), CODE)
    return code


def generated_sources(module: nn.Module) -> Mapping[str, str]:
    """Return the source of the generated methods of an operated module, by name."""
    return code_of(module).sources


def grafts_in(module: nn.Module) -> list[nn.Module]:
    """Return the blocks that a module owns."""
    grafts = grafts_of(module)
    return [] if grafts is None else list(grafts.values())
