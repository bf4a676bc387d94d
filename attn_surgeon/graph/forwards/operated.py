"""A module with grafts: a subclass of its own class whose forward goes through them.

The module stays the object it was. Only its class changes, to a subclass made for it, and it gains one child under
a reserved name that holds the grafts. Taking both away gives the original back.
"""

from __future__ import annotations

import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib import import_module
from typing import Any

from torch import nn

RESERVED = "attn_surgeon"


class Grafts(nn.ModuleDict):
    """The grafts of one module, by key, in the order they were made."""

    def __init__(self) -> None:
        super().__init__()
        self.records: dict[str, Any] = {}

    def add(self, key: str, module: nn.Module, record: Any) -> None:
        """Keep a graft's module and what is known of it."""
        self[key] = module
        self.records[key] = record

    def drop(self, key: str) -> None:
        """Forget a graft."""
        del self[key], self.records[key]


@dataclass(frozen=True, eq=False)
class Code:
    """Generated methods as source text, with the names that the text needs."""

    sources: Mapping[str, str]
    names: Mapping[str, Any]

    def __deepcopy__(self, memo: object) -> Code:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        modules = {key: item.__name__ for key, item in self.names.items() if isinstance(item, types.ModuleType)}
        others = {key: item for key, item in self.names.items() if key not in modules}
        return _code, (dict(self.sources), modules, others)


def _code(sources: dict[str, str], modules: dict[str, str], others: dict[str, Any]) -> Code:
    return Code(sources, others | {key: import_module(name) for key, name in modules.items()})


def operated_class(base: type[nn.Module], code: Code) -> type[nn.Module]:
    """Make the subclass of `base` whose methods are the generated ones."""

    def reduce(self: nn.Module, protocol: Any) -> tuple[Any, ...]:
        parts: tuple[Any, ...] = tuple(super(cls, self).__reduce_ex__(protocol))
        (_, *arguments), *rest = parts[1:]
        return (_rebuild, (base, code, *arguments), *rest)

    namespace: dict[str, Any] = {
        "__module__": base.__module__,
        "__qualname__": base.__qualname__,
        "__doc__": base.__doc__,
        "__reduce_ex__": reduce,
        "_attn_surgeon_base": base,
        "_attn_surgeon_code": code,
        **_compiled(base, code),
        **_hidden_from_iteration(base),
    }
    cls: type[nn.Module] = type(base.__name__, (base,), namespace)
    return cls


def _compiled(base: type[nn.Module], code: Code) -> dict[str, Any]:
    scope: dict[str, Any] = dict(code.names) | {"_original": base}
    for name, source in code.sources.items():
        # The text is what fx printed for the module's own forward, or the wrapper written in rewrite.py.
        exec(compile(source, f"<attn_surgeon {base.__name__}.{name}>", "exec"), scope)
    methods = {name: scope[name] for name in code.sources}
    for name, method in methods.items():
        if hasattr(base, name):
            methods[name] = wraps(getattr(base, name))(method)
    return methods


def _rebuild(base: type[nn.Module], code: Code, *arguments: Any) -> nn.Module:
    cls = operated_class(base, code)
    return cls.__new__(cls, *arguments)


def _hidden_from_iteration(base: type[nn.Module]) -> dict[str, Any]:
    """Keep the reserved child out of what a container's own forward and its users iterate over."""
    if issubclass(base, nn.ModuleDict):
        return {
            "__iter__": lambda self: iter(_visible(self)),
            "__len__": lambda self: len(_visible(self)),
            "__contains__": lambda self, key: key in _visible(self),
            "keys": lambda self: _visible(self).keys(),
            "items": lambda self: _visible(self).items(),
            "values": lambda self: _visible(self).values(),
        }
    if issubclass(base, nn.Sequential):
        return {
            "__iter__": lambda self: iter(_visible(self).values()),
            "__len__": lambda self: len(_visible(self)),
            "__getitem__": lambda self, index: _item(base, self, index),
        }
    return {}


def _item(base: type[Any], module: Any, index: Any) -> Any:
    """Give a child, or a Sequential of the class before any graft for a slice."""
    if isinstance(index, slice):
        return base(OrderedDict(list(_visible(module).items())[index]))
    return base.__getitem__(module, index)


def _visible(module: nn.Module) -> dict[str, nn.Module | None]:
    return {name: child for name, child in module._modules.items() if name != RESERVED}


def is_operated(module: nn.Module) -> bool:
    """Say whether a module carries grafts of its own."""
    return "_attn_surgeon_base" in vars(type(module))


def original_class(module: nn.Module) -> type[nn.Module]:
    """Give the class a module had before any graft."""
    cls = type(module)
    base: type[nn.Module] = vars(cls).get("_attn_surgeon_base", cls)
    return base


def generated_sources(module: nn.Module) -> Mapping[str, str]:
    """Give the text of the generated methods of an operated module."""
    code: Code = vars(type(module))["_attn_surgeon_code"]
    return code.sources


def grafts_of(module: nn.Module) -> Grafts | None:
    """Give the grafts a module carries itself, if any."""
    child = module._modules.get(RESERVED)
    return child if isinstance(child, Grafts) else None


def grafts_in(module: nn.Module) -> list[nn.Module]:
    """List the blocks that an operated module carries itself."""
    grafts = grafts_of(module) if is_operated(module) else None
    return [] if grafts is None else list(grafts.values())


def operate(module: nn.Module, grafts: Grafts, code: Code) -> None:
    """Make `module` an operated one, in place."""
    module.__class__ = operated_class(original_class(module), code)
    module._modules[RESERVED] = grafts


def restore(module: nn.Module) -> None:
    """Give a module its own class back and take its grafts out, in place."""
    module.__class__ = original_class(module)
    if grafts_of(module) is not None:
        del module._modules[RESERVED]


def reinstate(module: nn.Module, cls: type[nn.Module], grafts: Grafts) -> None:
    """Make a module again what it was when it had this class and these grafts, in place."""
    module.__class__ = cls
    module._modules[RESERVED] = grafts


@contextmanager
def as_original(module: nn.Module) -> Iterator[None]:
    """Let a module be what it was before any graft, for a while."""
    cls, grafts = type(module), grafts_of(module)
    if grafts is None:
        yield
        return
    restore(module)
    try:
        yield
    finally:
        reinstate(module, cls, grafts)
