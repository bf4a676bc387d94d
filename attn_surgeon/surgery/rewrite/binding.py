"""How a forward is really called: which parameters are tensors, which hold several, and which are constants.

A traced forward sees a stand-in for every argument, so `if mask is None` would take the wrong branch. Arguments
that were no tensors in the example run are therefore made concrete, and a guard in the generated code refuses
calls that give them another value. A number that differs between the runs, such as a height, stays an argument; of
a list, tuple or dict of tensors the length or the keys are made concrete.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor, fx, nn

from attn_surgeon.surgery.observe.recorder import TensorHolder

TENSOR = "<tensor>"


@dataclass(frozen=True)
class Several:
    """A list, tuple or dict of tensors, by its keys."""

    kind: str
    keys: tuple[str | int, ...]

    def to_plain(self) -> dict[str, Any]:
        """Write it as plain data."""
        return {"kind": self.kind, "keys": list(self.keys)}

    @classmethod
    def of(cls, value: Any) -> Self | None:
        """Describe a container of tensors; None for anything else."""
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

    def filled(self, take: Callable[[str | int], Any]) -> Any:
        """Return such a container of other items."""
        items = {key: take(key) for key in self.keys}
        return items if self.kind == "dict" else {"list": list, "tuple": tuple}[self.kind](items.values())


Constant = None | bool | int | float | str | tuple[Any, ...] | Several
Binding = Mapping[str, Constant]

_SCALARS = (type(None), bool, int, float, str)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class UntraceableError(Exception):
    """Report why a module's own forward cannot be rewritten; the module is then opaque."""


def bind_calls(function: Callable[..., Any], calls: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> Binding:
    """Return the one binding that all `calls` of `function` agree on; raise UntraceableError where they differ."""
    signature = inspect.signature(function)
    bindings = [_bind(signature, args, kwargs) for args, kwargs in calls]
    if not bindings:
        raise UntraceableError("it was not called in the example run")
    return {name: _agreed([binding[name] for binding in bindings]) for name in bindings[0]}


def _agreed(values: Sequence[Constant]) -> Constant:
    first = values[0]
    if all(type(value) is type(first) and value == first for value in values):
        return first
    if all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values):
        return TENSOR
    raise UntraceableError("its calls differ in arguments that are no tensors")


def _bind(signature: inspect.Signature, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Binding:
    given = signature.bind(None, *args, **kwargs)
    given.apply_defaults()
    names = list(signature.parameters.values())[1:]
    binding: dict[str, Constant] = {}
    for parameter in names:
        value = given.arguments[parameter.name]
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
    several = Several.of(value)
    if several is not None:
        return several
    type_name = value.type if isinstance(value, TensorHolder) else type(value).__name__
    raise UntraceableError(f"its argument '{name}' is a {type_name}")


def is_proxy(value: Any) -> bool:
    """Return whether a value stands for another in a trace."""
    return isinstance(value, fx.Proxy)


def require(name: str, value: Any, expected: Any) -> None:
    """Refuse a call whose argument differs from the one the forward was rewritten for; in a trace, when that runs."""
    if isinstance(value, fx.Proxy):
        value.tracer.create_proxy("call_function", require, (name, value, expected), {})
    elif value is not expected and (isinstance(value, Tensor) or value != expected):
        raise ValueError(
            f"this module's forward was rewritten for {name}={expected!r}, but is called with {name}={value!r}; "
            "insert the blocks with an example that calls it so"
        )


def require_several(name: str, value: Any, kind: str, keys: Sequence[str | int]) -> None:
    """Refuse a call whose argument holds other tensors than the one the forward was rewritten for."""
    if isinstance(value, fx.Proxy):
        value.tracer.create_proxy("call_function", require_several, (name, value, kind, tuple(keys)), {})
        return
    given = list(value) if isinstance(value, dict) else list(range(len(value)))
    if isinstance(value, dict) != (kind == "dict") or given != list(keys):
        raise ValueError(
            f"this module's forward was rewritten for a {kind} {name} of {len(keys)} tensors, but is called with "
            f"{given}; insert the blocks with an example that calls it so"
        )


def take(value: Any, key: str | int) -> Any:
    """Return one of several tensors of an argument."""
    return value[key]


PREAMBLE: tuple[Callable[..., Any], ...] = (require, require_several, take)


def own_methods(module_class: type[nn.Module]) -> dict[str, Callable[..., Any]]:
    """Return the helper methods of a class and its bases, those that its forward may call on itself."""
    methods: dict[str, Callable[..., Any]] = {}
    for cls in reversed(module_class.__mro__):
        if cls.__module__.partition(".")[0] == "torch" or cls is object:
            continue
        methods |= {name: item for name, item in vars(cls).items() if inspect.isfunction(item)}
    return {name: item for name, item in methods.items() if not name.startswith("__") and name != "forward"}
