"""Install grafts in a module by changing its class to a generated subclass whose forward calls them.

The module stays the same object. Its class becomes a subclass generated for it, and it gets one child under a reserved
name, the container of the grafts. Removing both restores the original.
"""

from __future__ import annotations

import linecache
import zlib
from collections.abc import Callable, Mapping
from functools import update_wrapper
from typing import Any

from torch import nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.rewrite.assigned_forwards import Method
from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts, grafts_of, original_children
from attn_surgeon.surgery.rewrite.library_methods import library_methods
from attn_surgeon.surgery.rewrite.operated_modules import (
    BASE,
    CODE,
    GUARD,
    Code,
    code_from_parts,
    operated_base,
    original_class,
    rebased,
    set_class,
)
from attn_surgeon.surgery.rewrite.references import MARK
from attn_surgeon.surgery.rewrite.visible_children import child_methods
from attn_surgeon.surgery.rewrite.wrapper import write_wrapper

_code = code_from_parts  # pickles of earlier versions name it
_scriptable: list[Callable[[nn.Module], nn.Module]] = []


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
        BASE: base,
        CODE: code,
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


def install(module: nn.Module, grafts: Grafts, code: Code) -> None:
    """Install grafts in a module in place: set its class to a subclass with the generated methods."""
    cls = type(module)
    old = operated_base(cls)
    base = cls if old is None else vars(old)[BASE]
    new = operated_class(base, code)
    # Another thread may be calling the module: at no moment may its class run a graft that it does not have.
    grafts_first = old is None or vars(old)[CODE].keys <= set(grafts)
    if grafts_first:
        put_grafts(module, grafts)
    set_class(module, new if old is None else rebased(cls, old, new))
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
    base, code, grafts = vars(old)[BASE], vars(old)[CODE], grafts or Grafts()
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
