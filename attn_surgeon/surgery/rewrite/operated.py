"""A module with grafts: a subclass of its own class whose forward goes through them.

The module stays the object it was. Only its class changes, to a subclass made for it, and it gains one child under
a reserved name that holds the grafts. Taking both away gives the original back.
"""

from __future__ import annotations

import linecache
import types
import warnings
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import update_wrapper
from importlib import import_module
from typing import Any

from torch import nn

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.rewrite.assigned import Method
from attn_surgeon.surgery.rewrite.children import seen_children
from attn_surgeon.surgery.rewrite.grafts import RESERVED, Grafts, grafts_of, own_children
from attn_surgeon.surgery.rewrite.held import MARK
from attn_surgeon.surgery.rewrite.wrapper import write_wrapper

_NONE: frozenset[str] = frozenset()
GUARD = "_require_expected"
_BASE, _CODE = "_attn_surgeon_base", "_attn_surgeon_code"
_set_class: Callable[[object, type], None] = vars(object)["__class__"].__set__


@dataclass(frozen=True, eq=False)
class Code:
    """Generated methods as source text, the names that the text needs, and the keys of the grafts in it.

    `children` are those that the text calls in train and in eval mode.
    """

    sources: Mapping[str, str]
    names: Mapping[str, Any]
    keys: frozenset[str] = frozenset()
    children: Mapping[bool, frozenset[str]] = field(default_factory=dict)

    def __deepcopy__(self, memo: object) -> Code:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        modules = {key: item.__name__ for key, item in self.names.items() if isinstance(item, types.ModuleType)}
        others = {key: item for key, item in self.names.items() if key not in modules}
        return _code, (dict(self.sources), modules, others, self.keys, dict(self.children))


def _code(sources: dict[str, str], modules: dict[str, str], others: dict[str, Any], *rest: Any) -> Code:
    return Code(sources, others | {key: import_module(name) for key, name in modules.items()}, *rest)


def operated_class(base: type[nn.Module], code: Code) -> type[nn.Module]:
    """Build the subclass of `base` whose methods are the generated ones."""

    def reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        parts: tuple[Any, ...] = tuple(super(cls, self).__reduce_ex__(protocol))
        if type(self) is not cls:  # another tool has made a subclass of it, which it copies in its own way
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
        **_announced(base),
        **seen_children(base),
    }
    cls: type[nn.Module] = type(base.__name__, (base,), namespace)
    for name in [name for name, item in namespace.items() if isinstance(item, Method)]:
        method: Any = vars(cls)[name]
        if not isinstance(method, Method):  # transformers wraps the forward of every subclass of its layers
            vars(method)[MARK] = True
            setattr(cls, name, Method(name, method))
    return cls


def _qualname(base: type[nn.Module]) -> str:
    """Return what messages call a class; transformers looks its own up by it, torch shows its own in errors."""
    return f"{base.__qualname__}.{RESERVED}" if base.__module__.startswith("torch.nn.") else base.__qualname__


def _announced(base: type[Any]) -> dict[str, Any]:
    """Warn where a network is saved for a library that builds it anew from its configuration, without grafts."""

    def save_pretrained(self: Any, *args: Any, **kwargs: Any) -> Any:
        warnings.warn(
            "from_pretrained builds this network from its configuration, without attn_surgeon's grafts: insert them "
            "into what it gives and load the state again, or save with attn_surgeon.save",
            stacklevel=2,
        )
        return base.save_pretrained(self, *args, **kwargs)

    return {"save_pretrained": save_pretrained} if callable(getattr(base, "save_pretrained", None)) else {}


def _methods(base: type[nn.Module], code: Code) -> dict[str, Any]:
    methods = {name: Method(name, function) for name, function in _compiled(base, code).items()}
    # A forward without a graft of its own is watched too: one that replaces it may leave out the method that has.
    return {"forward": Method("forward", base.forward), **methods}


def _compiled(base: type[nn.Module], code: Code) -> dict[str, Any]:
    scope: dict[str, Any] = dict(code.names) | {"_original": base}
    for name, source in code.sources.items():
        run_source(source, f"{base.__name__}.{name}", scope)
    methods = {name: scope[name] for name in code.sources}
    for name, method in methods.items():
        vars(method)[MARK] = True
        if hasattr(base, name):
            update_wrapper(method, getattr(base, name))
            del method.__wrapped__  # Accelerate and others who unwrap methods would leave the grafts out
    return methods


def run_source(source: str, title: str, scope: dict[str, Any]) -> None:
    """Define in `scope` what generated source defines, such that tracebacks and `inspect` show its text.

    It is what fx printed for a module's own forward, or the wrapper written in wrapper.py.
    """
    file = f"<attn_surgeon {title} {zlib.crc32(source.encode()):08x}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    exec(compile(source, file, "exec"), scope)


def _rebuild(base: type[nn.Module], code: Code, *arguments: Any) -> nn.Module:
    cls = operated_class(base, code)
    return cls.__new__(cls, *arguments)


def carrier(cls: type) -> type[nn.Module] | None:
    """Return the operated class among a class and its bases, for other tools make subclasses of it; None if none is."""
    return next((base for base in cls.__mro__ if _BASE in vars(base)), None)


def is_operated(module: nn.Module) -> bool:
    """Return whether a module's class runs grafts: it was made for that, and nobody put another forward into it."""
    cls = type(module)
    operated = cls if _BASE in vars(cls) else carrier(cls)
    return operated is not None and isinstance(vars(operated)["forward"], Method)


def runs_key(module: nn.Module, key: str) -> bool:
    """Return whether a module's class runs the graft of this key."""
    return is_operated(module) and key in code_of(module).keys


def missing_children(module: nn.Module) -> frozenset[str]:
    """Return the children that an operated module's generated methods call and that are not there any more."""
    called = code_of(module).children.get(module.training, _NONE) if is_operated(module) else _NONE
    return _NONE if called <= module._modules.keys() else called - module._modules.keys()


def original_class(module: nn.Module) -> type[nn.Module]:
    """Return the class a module had before any graft, with what other tools made of it since."""
    return _without(type(module))


def _without(cls: type[nn.Module]) -> type[nn.Module]:
    operated = carrier(cls)
    if operated is None:
        return cls
    base: type[nn.Module] = vars(operated)[_BASE]
    return base if cls is operated else _rebased(cls, operated, base)


def _rebased(cls: type[Any], old: type, new: type) -> Any:
    """Build a class again with one of its bases, at any depth, exchanged for another."""
    if cls is old:
        return new
    if old not in cls.__mro__:
        return cls
    namespace = {name: item for name, item in vars(cls).items() if name not in ("__dict__", "__weakref__")}
    make: Any = type(cls)
    return make(cls.__name__, tuple(_rebased(base, old, new) for base in cls.__bases__), namespace)


def code_of(module: nn.Module) -> Code:
    """Return the generated methods of an operated module."""
    code: Code = getattr(type(module), _CODE)
    return code


def generated_sources(module: nn.Module) -> Mapping[str, str]:
    """Return the text of the generated methods of an operated module."""
    return code_of(module).sources


def grafts_in(module: nn.Module) -> list[nn.Module]:
    """List the blocks that a module carries itself."""
    grafts = grafts_of(module)
    return [] if grafts is None else list(grafts.values())


def install(module: nn.Module, grafts: Grafts, code: Code) -> None:
    """Install grafts in a module in place: its class becomes one whose methods are the generated ones."""
    cls = type(module)
    old = carrier(cls)
    base = cls if old is None else vars(old)[_BASE]
    new = operated_class(base, code)
    # Another thread may be calling the module: at no moment may its class run a graft that it does not have.
    grafts_first = old is None or vars(old)[_CODE].keys <= set(grafts)
    if grafts_first:
        put_grafts(module, grafts)
    _set_class(module, new if old is None else _rebased(cls, old, new))
    if not grafts_first:
        put_grafts(module, grafts)


def put_grafts(module: nn.Module, grafts: Grafts) -> None:
    """Set a module's grafts, as the first of its children: people cut networks with `children()[:-2]`."""
    others = own_children(module)
    _set_children(module, {RESERVED: grafts, **others} if len(grafts) else others)


def _set_children(module: nn.Module, children: Mapping[str, nn.Module | None]) -> None:
    """Replace a table by another, at once: another thread may be looking a child up."""
    vars(module)["_modules"] = dict(children)


def restore(module: nn.Module) -> None:
    """Restore a module's own class and remove its grafts, in place."""
    _set_class(module, original_class(module))
    if grafts_of(module) is not None:
        del module._modules[RESERVED]


def set_state(module: nn.Module, cls: type[nn.Module], children: Mapping[str, nn.Module | None]) -> None:
    """Restore a module's class and children, in place."""
    if type(module) is not cls:
        _set_class(module, cls)
    if list(module._modules.items()) != list(children.items()):
        _set_children(module, children)


def _assign_class(module: nn.Module, cls: type[nn.Module]) -> None:
    """Set the class that other code assigns to an operated module, such that its grafts stay.

    A subclass of the operated class has them already, as parametrizations and sharding make it. Another class with
    the same methods gets them too, and its forward those at the module's entry and exit; raises LostGraftError for
    one inside a forward that the class has otherwise.
    """
    old = carrier(type(module))
    grafts = grafts_of(module)
    if carrier(cls) is not None or old is None:
        _set_class(module, cls)
        return
    base, code, grafts = vars(old)[_BASE], vars(old)[_CODE], grafts or Grafts()
    inside = [record for key in grafts if (record := grafts.record(key)).placement.kind == "edge"]
    others = [name for name in code.sources if getattr(cls, name, None) is not getattr(base, name, None)]
    if others and inside:
        named = ", ".join(f"{record.side} {record.site}" for record in inside)
        raise LostGraftError(
            f"the grafts {named} would be lost: they are in a forward that the class {cls.__name__} has otherwise",
            f"a {base.__name__} whose class is assigned",
            "change classes before inserting, or take these grafts out with attn_surgeon.remove",
        )
    if others:
        places = {key: grafts.record(key).placement for key in grafts}
        guards = {name: item for name, item in code.names.items() if name == GUARD}
        source, names = write_wrapper(cls.forward, "_original.forward", places, [f"{name}(self)" for name in guards])
        code = Code({"forward": source}, names | guards, code.keys)
    _set_class(module, operated_class(cls, code))


def _prepare_scriptable(module: nn.Module) -> nn.Module:
    from attn_surgeon.surgery.rewrite.scripted import prepare_scriptable

    return prepare_scriptable(module)
