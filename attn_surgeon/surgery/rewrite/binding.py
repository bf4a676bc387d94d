"""Bind the parameters of a forward to what they were in the observed calls: tensors, containers of them, constants.

In a trace every argument is an `fx.Proxy`, so `if mask is None` would take the wrong branch. Arguments that were not
tensors are therefore replaced by their value, as `concrete_args` does, and a guard in the generated code raises for
another value. A number that differs between the calls, such as a height, stays an argument. Of a list, tuple or dict of
tensors, the length or the keys are fixed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, fx, nn

from attn_surgeon.errors import OtherCallError
from attn_surgeon.surgery.observe.recorder import TensorHolder

TENSOR = "<tensor>"

_AS_CALLED = "insert the blocks with an example that calls it in this way"


@dataclass(frozen=True)
class ContainerSpec:
    """The structure of a list, tuple or dict of tensors: its type and its keys or indices."""

    kind: str
    keys: tuple[str | int, ...]

    def to_plain(self) -> dict[str, Any]:
        """Return the structure as plain data."""
        return {"kind": self.kind, "keys": list(self.keys)}

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """Return the structure of a container of tensors; None for anything else."""
        if type(value) in (list, tuple):
            pairs = list(enumerate(value))
        elif isinstance(value, dict):
            pairs = list(value.items())
        else:
            return None
        if not pairs or not all(isinstance(item, Tensor) or is_proxy(item) for _, item in pairs):
            return None
        if not all(isinstance(key, (str, int)) for key, _ in pairs):
            return None
        kind = "dict" if isinstance(value, dict) else type(value).__name__
        return cls(kind, tuple(key for key, _ in pairs))

    def build(self, take: Callable[[str | int], Any]) -> Any:
        """Build a container of this structure from the items that `take` returns for its keys."""
        items = {key: take(key) for key in self.keys}
        return items if self.kind == "dict" else {"list": list, "tuple": tuple}[self.kind](items.values())


Constant = None | bool | int | float | str | tuple[Any, ...] | ContainerSpec
Binding = Mapping[str, Constant]

_SCALARS = (type(None), bool, int, float, str)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class UntraceableError(Exception):
    """Report why a forward cannot be traced and rewritten; there are then no sites inside it."""


def bind_calls(function: Callable[..., Any], calls: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> Binding:
    """Return the binding of parameters to values that all calls share; raise UntraceableError where they differ."""
    signature = inspect.signature(function)
    bindings = [_bind(signature, args, kwargs) for args, kwargs in calls]
    if not bindings:
        raise UntraceableError("it was not called in the example run")
    return {name: _common_value([binding[name] for binding in bindings]) for name in bindings[0]}


def _common_value(values: Sequence[Constant]) -> Constant:
    first = values[0]
    if all(type(value) is type(first) and value == first for value in values):
        return first
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return TENSOR
    raise UntraceableError("its calls differ in arguments that are not tensors")


def _bind(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Binding:
    bound = signature.bind(None, *args, **kwargs)
    bound.apply_defaults()
    binding: dict[str, Constant] = {}
    for parameter in list(signature.parameters.values())[1:]:
        value = bound.arguments[parameter.name]
        if parameter.kind in _VARIADIC:
            if value:
                raise UntraceableError(f"it takes extra arguments in *{parameter.name}")
        else:
            binding[parameter.name] = _constant(parameter.name, value)
    return binding


def _constant(name: str, value: Any) -> Constant:
    if isinstance(value, _SCALARS):
        return value
    if isinstance(value, tuple) and all(isinstance(item, _SCALARS) for item in value):
        return tuple(value)
    if isinstance(value, Tensor) or is_proxy(value):
        return TENSOR
    container = ContainerSpec.of(value)
    if container is not None:
        return container
    type_name = value.type if isinstance(value, TensorHolder) else type(value).__name__
    raise UntraceableError(f"its argument '{name}' is a {type_name}")


def is_proxy(value: Any) -> bool:
    """Return whether a value is an `fx.Proxy`, which stands for a value in a trace."""
    return isinstance(value, fx.Proxy)


def require(name: str, value: Any, expected: Any) -> None:
    """Raise OtherCallError for an argument other than the one that the forward was rewritten for.

    Where the argument is a proxy, a node that does this is added to the traced graph.
    """
    if isinstance(value, fx.Proxy):
        value.tracer.create_proxy("call_function", require, (name, value, expected), {})
    elif value is not expected and (isinstance(value, Tensor) or value != expected):
        found = "a tensor" if isinstance(value, Tensor) else repr(value)
        what = f"this module's forward was rewritten for {name}={expected!r}, but is called with {name}={found}"
        raise OtherCallError(what, "", _AS_CALLED)


def require_container(name: str, value: Any, kind: str, keys: Sequence[str | int]) -> None:
    """Raise OtherCallError for a container of tensors with another structure than the forward was rewritten for."""
    if isinstance(value, fx.Proxy):
        value.tracer.create_proxy("call_function", require_container, (name, value, kind, tuple(keys)), {})
        return
    length = len(value) if hasattr(value, "__len__") and not isinstance(value, Tensor) else 0
    actual = list(value) if isinstance(value, dict) else list(range(length))
    if isinstance(value, dict) != (kind == "dict") or actual != list(keys):
        what = f"this module's forward was rewritten for a {kind} {name} of {len(keys)} tensors"
        raise OtherCallError(f"{what}, but is called with one that has {actual}", "", _AS_CALLED)


def take(value: Any, key: str | int) -> Any:
    """Return an item of a container that is an argument; a function, so that it is a node of the graph."""
    return value[key]


# Functions of the nodes that unpack and guard arguments, which are no sites.
PREAMBLE: tuple[Callable[..., Any], ...] = (require, require_container, take)


def helper_methods(module_class: type[nn.Module]) -> dict[str, Callable[..., Any]]:
    """Return the methods that the forward of a class may call on `self`, inherited ones included, torch's excepted."""
    methods: dict[str, Callable[..., Any]] = {}
    for cls in reversed(module_class.__mro__):
        if cls.__module__.partition(".")[0] == "torch" or cls is object:
            continue
        methods |= {name: item for name, item in vars(cls).items() if inspect.isfunction(item)}
    return {name: item for name, item in methods.items() if not name.startswith("__") and name != "forward"}
