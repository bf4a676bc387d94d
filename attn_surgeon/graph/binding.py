"""How a forward is really called: which parameters are tensors and which are constants.

A traced forward sees a stand-in for every argument, so `if mask is None` would take the wrong branch. Arguments
that were no tensors in the example run are therefore made concrete, and a guard in the generated code refuses
calls that give them another value.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from attn_surgeon.graph.recorder import Held

TENSOR = "<tensor>"
Constant = None | bool | int | float | str | tuple[Any, ...]
Binding = Mapping[str, Constant]

_SCALARS = (type(None), bool, int, float, str)
_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class UntraceableError(Exception):
    """Say why a module's own forward cannot be rewritten; the module is then opaque."""


def bind_calls(function: Callable[..., Any], calls: Iterable[tuple[tuple[Any, ...], Mapping[str, Any]]]) -> Binding:
    """Find the one binding that all `calls` of `function` agree on; raise UntraceableError where they differ."""
    signature = inspect.signature(function)
    bindings = [_bind(signature, args, kwargs) for args, kwargs in calls]
    if not bindings:
        raise UntraceableError("it was not called in the example run")
    if any(binding != bindings[0] for binding in bindings):
        raise UntraceableError("its calls differ in arguments that are no tensors")
    return bindings[0]


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
    if isinstance(value, Tensor) or _is_proxy(value):
        return TENSOR
    type_name = value.type if isinstance(value, Held) else type(value).__name__
    raise UntraceableError(f"its argument '{name}' is a {type_name}")


def _is_proxy(value: Any) -> bool:
    from torch.fx import Proxy

    return isinstance(value, Proxy)


def require(name: str, value: Any, expected: Any) -> None:
    """Refuse a call whose argument differs from the one the forward was rewritten for."""
    if value is not expected and (isinstance(value, Tensor) or value != expected):
        raise ValueError(
            f"this module's forward was rewritten for {name}={expected!r}, but is called with {name}={value!r}; "
            "insert the blocks with an example that calls it so"
        )


def own_methods(module: nn.Module) -> dict[str, Callable[..., Any]]:
    """Map the helper methods of a module's own classes, those that its forward may call on itself."""
    methods: dict[str, Callable[..., Any]] = {}
    for cls in reversed(type(module).__mro__):
        if cls.__module__.partition(".")[0] == "torch" or cls is object:
            continue
        methods |= {name: item for name, item in vars(cls).items() if inspect.isfunction(item)}
    return {name: item for name, item in methods.items() if not name.startswith("__") and name != "forward"}
