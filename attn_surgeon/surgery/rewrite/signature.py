"""Write the parameters of a method as source code, for the definition and the calls in generated methods."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

_VARIADIC: dict[Any, str] = {inspect.Parameter.VAR_POSITIONAL: "*", inspect.Parameter.VAR_KEYWORD: "**"}


@dataclass(frozen=True)
class Signature:
    """The parameters of a method as source, without `self`.

    Args:
        takes: the parameters as in a definition.
        passes: the arguments as in a call that passes them on.
        names: the globals that the definition needs: defaults that cannot be written as literals.
    """

    takes: str
    passes: str
    names: Mapping[str, Any]


def write_signature(method: Callable[..., Any]) -> Signature:
    """Return the parameters of a method, the first excepted, as source.

    For a decorated method, they are those of the decorator's function, which may accept more than the method.
    """
    try:
        parameters = list(inspect.signature(method, follow_wrapped=False).parameters.values())[1:]
    except (TypeError, ValueError):  # a method in C++
        return Signature("*args, **kwargs", "*args, **kwargs", {})
    names = {f"_default_{item.name}": item.default for item in parameters if not _is_literal(item.default)}
    return Signature(_takes(parameters, names), ", ".join(_pass(item) for item in parameters), names)


def _is_literal(default: Any) -> bool:
    plain = default is inspect.Parameter.empty or default is None or type(default) in (bool, int, str)
    return plain or (type(default) is float and abs(default) < float("inf"))


def _takes(parameters: list[inspect.Parameter], names: Mapping[str, Any]) -> str:
    texts: list[str] = []
    kinds = [item.kind for item in parameters]
    for index, item in enumerate(parameters):
        starts_keywords = item.kind is item.KEYWORD_ONLY and item.KEYWORD_ONLY not in kinds[:index]
        if starts_keywords and item.VAR_POSITIONAL not in kinds:
            texts.append("*")
        texts.append(_take(item, names))
        if item.kind is item.POSITIONAL_ONLY and kinds[index + 1 : index + 2] != [item.POSITIONAL_ONLY]:
            texts.append("/")
    return ", ".join(texts)


def _take(item: inspect.Parameter, names: Mapping[str, Any]) -> str:
    name = _VARIADIC.get(item.kind, "") + item.name
    if item.default is item.empty:
        return name
    default = f"_default_{item.name}"
    return f"{name}={default if default in names else repr(item.default)}"


def _pass(item: inspect.Parameter) -> str:
    if item.kind is item.KEYWORD_ONLY:
        return f"{item.name}={item.name}"
    return _VARIADIC.get(item.kind, "") + item.name


def first_parameter(method: Callable[..., Any]) -> str:
    """Return the name of the first parameter of a method after `self`; `input` where it has no name."""
    parameters = list(inspect.signature(method).parameters.values())[1:]
    if not parameters or parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return "input"
    return parameters[0].name
