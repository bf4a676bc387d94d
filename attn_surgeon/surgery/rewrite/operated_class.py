"""Install grafts in a module by changing its class to a generated subclass whose forward calls them.

The module stays the same object. Its class becomes a subclass generated for it, and it gets one child under a reserved
name, the container of the grafts. Removing both restores the original.
"""

from __future__ import annotations

import linecache
import types
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import update_wrapper
from importlib import import_module
from typing import Any

from torch import nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.rewrite.assigned_forwards import Method
from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts, grafts_of, original_children
from attn_surgeon.surgery.rewrite.library_methods import library_methods
from attn_surgeon.surgery.rewrite.references import MARK
from attn_surgeon.surgery.rewrite.visible_children import child_methods
from attn_surgeon.surgery.rewrite.wrapper import write_wrapper

_NONE: frozenset[str] = frozenset()
GUARD = "_require_expected"  # the name of `require_expected` in generated code
_BASE, _CODE = "_attn_surgeon_base", "_attn_surgeon_code"
set_class: Callable[[object, type], None] = vars(object)["__class__"].__set__
_scriptable: list[Callable[[nn.Module], nn.Module]] = []


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
        return _code, (dict(self.sources), modules, others, self.keys, dict(self.children), dict(self.folded))


def _code(sources: dict[str, str], modules: dict[str, str], others: dict[str, Any], *rest: Any) -> Code:
    return Code(sources, others | {key: import_module(name) for key, name in modules.items()}, *rest)


def operated_class(base: type[nn.Module], code: Code) -> type[nn.Module]:
    """Build a subclass of `base` with generated methods, which copies and pickles rebuild from `base` and `code`."""

    def reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        parts: tuple[Any, ...] = tuple(super(cls, self).__reduce_ex__(protocol))
        if type(self) is not cls:  # a subclass made by another tool, such as parametrize, which copies it itself
            return parts
        (_, *arguments), *rest = parts[1:]
        return (_rebuild, (base, code, *arguments), *rest)

    namespace: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": _qualname(base),
        "__doc__": base.__doc__,
        "__reduce_ex__": reduce,
        "__class__": property(type, _assign_class),
        "__prepare_scriptable__": _prepare_scriptable,
        _BASE: base,
        _CODE: code,
        **_methods(base, code),
        **library_methods(base),
        **child_methods(base),
    }
    cls: type[nn.Module] = type(base.__name__, (base,), namespace)
    for name in [name for name, item in namespace.items() if isinstance(item, Method)]:
        method: Any = vars(cls)[name]
        if not isinstance(method, Method):  # __init_subclass__ of transformers' layers wraps forward
            vars(method)[MARK] = True
            setattr(cls, name, Method(name, method))
    return cls


def _qualname(base: type[nn.Module]) -> str:
    """Return the qualified name for an operated class: transformers looks classes up by it, and errors show it."""
    return f"{base.__qualname__}.{RESERVED}" if base.__module__.startswith("torch.nn.") else base.__qualname__


def _methods(base: type[nn.Module], code: Code) -> dict[str, Any]:
    methods = {name: Method(name, function) for name, function in _compiled(base, code).items()}
    # A forward without grafts gets a descriptor too: one assigned in its place may not call the method that has them.
    return {"forward": Method("forward", base.forward), **methods}


def _compiled(base: type[nn.Module], code: Code) -> dict[str, Any]:
    scope: dict[str, Any] = dict(code.names) | {"_original": base}
    sources = {**code.sources, **code.folded}
    for name, source in sources.items():
        run_source(source, f"{base.__name__}.{name}", scope)
    methods = {name: scope[name] for name in sources}
    for name, method in methods.items():
        vars(method)[MARK] = True
        if hasattr(base, name):
            update_wrapper(method, getattr(base, name))
            del method.__wrapped__  # Accelerate unwraps methods, and would call the original without grafts
    return methods


def run_source(source: str, title: str, scope: dict[str, Any]) -> None:
    """Execute generated source in `scope`, with an entry in `linecache` so that tracebacks and `inspect` show it.

    The source is the code that `torch.fx` generated for a method, or the wrapper that wrapper.py generated.
    """
    file = f"<attn_surgeon {title} {zlib.crc32(source.encode()):08x}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), scope)


def _rebuild(base: type[nn.Module], code: Code, *arguments: Any) -> nn.Module:
    cls = operated_class(base, code)
    return cls.__new__(cls, *arguments)


def operated_base(cls: type) -> type[nn.Module] | None:
    """Return the operated class among a class and its bases, since other tools subclass it; None without one."""
    return next((base for base in cls.__mro__ if _BASE in vars(base)), None)


def is_operated(module: nn.Module) -> bool:
    """Return whether a module's class runs grafts: it was generated, and its forward was not replaced on the class."""
    cls = type(module)
    operated = cls if _BASE in vars(cls) else operated_base(cls)
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
    base: type[nn.Module] = vars(operated)[_BASE]
    return base if cls is operated else _rebased(cls, operated, base)


def _rebased(cls: type[Any], old: type, new: type) -> Any:
    """Rebuild a class with one of its bases, direct or not, replaced by another."""
    if cls is old:
        return new
    if old not in cls.__mro__:
        return cls
    namespace = {name: item for name, item in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    metaclass: Any = type(cls)
    return metaclass(cls.__name__, tuple(_rebased(base, old, new) for base in cls.__bases__), namespace)


def code_of(module: nn.Module) -> Code:
    """Return the generated methods of an operated module."""
    code: Code = getattr(type(module), _CODE)
    return code


def generated_sources(module: nn.Module) -> Mapping[str, str]:
    """Return the source of the generated methods of an operated module, by name."""
    return code_of(module).sources


def grafts_in(module: nn.Module) -> list[nn.Module]:
    """Return the blocks that a module owns."""
    grafts = grafts_of(module)
    return [] if grafts is None else list(grafts.values())


def install(module: nn.Module, grafts: Grafts, code: Code) -> None:
    """Install grafts in a module in place: set its class to a subclass with the generated methods."""
    cls = type(module)
    old = operated_base(cls)
    base = cls if old is None else vars(old)[_BASE]
    new = operated_class(base, code)
    # Another thread may be calling the module: at no moment may its class run a graft that it does not have.
    grafts_first = old is None or vars(old)[_CODE].keys <= set(grafts)
    if grafts_first:
        put_grafts(module, grafts)
    set_class(module, new if old is None else _rebased(cls, old, new))
    if not grafts_first:
        put_grafts(module, grafts)


def put_grafts(module: nn.Module, grafts: Grafts) -> None:
    """Set a module's grafts, as the first of its children, since users cut networks with `children()[:-2]`."""
    others = original_children(module)
    _set_children(module, {RESERVED: grafts, **others} if len(grafts) else others)


def _set_children(module: nn.Module, children: Mapping[str, nn.Module | None]) -> None:
    """Replace the table of children in one assignment, because another thread may look a child up meanwhile."""
    vars(module)["_modules"] = dict(children)


def restore(module: nn.Module) -> None:
    """Restore a module's original class and remove its grafts, in place."""
    set_class(module, original_class(module))
    if grafts_of(module) is not None:
        del module._modules[RESERVED]


def set_state(module: nn.Module, cls: type[nn.Module], children: Mapping[str, nn.Module | None]) -> None:
    """Restore a module's class and children, in place."""
    if type(module) is not cls:
        set_class(module, cls)
    if list(module._modules.items()) != list(children.items()):
        _set_children(module, children)


def _assign_class(module: nn.Module, cls: type[nn.Module]) -> None:
    """Set a class that other code assigns to an operated module, such that its grafts are kept.

    A subclass of the operated class, as parametrizations and FSDP make it, runs them already. For another class, an
    operated class is generated: with the same code where it inherits the rewritten methods, or else with its forward
    wrapped by the grafts at the module's entry and exit. Raises LostGraftError where a graft is inside a method that
    the class overrides.
    """
    old = operated_base(type(module))
    grafts = grafts_of(module)
    if operated_base(cls) is not None or old is None:
        set_class(module, cls)
        return
    base, code, grafts = vars(old)[_BASE], vars(old)[_CODE], grafts or Grafts()
    inside = [record for key in grafts if (record := grafts.record(key)).placement.kind == "edge"]
    overridden = [name for name in code.sources if getattr(cls, name, None) is not getattr(base, name, None)]
    if overridden and inside:
        places = ", ".join(f"{record.side} {record.site}" for record in inside)
        raise LostGraftError(
            f"the grafts {places} would be lost: they are in a method that the class {cls.__name__} overrides",
            f"a {base.__name__} whose class is assigned",
            "change classes before inserting, or remove these grafts with attn_surgeon.remove",
        )
    if overridden:
        wraps = {key: grafts.record(key).placement for key in grafts}
        guards = {name: item for name, item in code.names.items() if name == GUARD}
        source, names = write_wrapper(cls.forward, "_original.forward", wraps, [f"{name}(self)" for name in guards])
        code = Code({"forward": source}, names | guards, code.keys)
    set_class(module, operated_class(cls, code))


def set_scriptable(prepare: Callable[[nn.Module], nn.Module]) -> None:
    """Set what `torch.jit.script` compiles in place of an operated network: torchscript.py builds on this module."""
    _scriptable.append(prepare)


def _prepare_scriptable(module: nn.Module) -> nn.Module:
    return _scriptable[-1](module)
