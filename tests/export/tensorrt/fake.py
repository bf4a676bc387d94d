"""A stand-in for TensorRT made from the recorded description of its API: it takes no call that the real one does not.

Names that are not in the description raise AttributeError, arguments of a wrong number or kind TypeError.
"""

from __future__ import annotations

import enum
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("signatures.json").read_text(encoding="utf-8"))
KINDS: dict[str, Any] = {"int": int, "str": str, "bool": bool, "bytes": (bytes, bytearray), "tuple": tuple}


def make(answers: dict[str, Callable[..., Any]], calls: list[tuple[str, tuple[Any, ...]]]) -> SimpleNamespace:
    """Make the module. `answers` says by `Class.method` what is given back; `calls` notes all of them."""
    module = SimpleNamespace()
    for name, members in RECORDED["enums"].items():
        setattr(module, name, enum.IntEnum(name, members, start=0))
    for name, known in RECORDED["classes"].items():
        setattr(module, name, _class(module, name, known, answers, calls))
    return module


def _class(module: Any, name: str, known: dict[str, Any], answers: Any, calls: Any) -> type:
    attributes = known.get("attributes", [])
    namespace: dict[str, Any] = {"__slots__": ("_set",)}

    def initialise(self: Any, *arguments: Any) -> None:
        self._set = {}
        _check(module, f"{name}.__init__", known["methods"].get("__init__", []), arguments)

    namespace["__init__"] = initialise
    for method, parameters in known["methods"].items():
        if method != "__init__":
            namespace[method] = _method(module, f"{name}.{method}", parameters, answers, calls)
    for attribute in attributes:
        namespace[attribute] = _property(f"{name}.{attribute}", attribute, answers, calls)
    namespace |= {constant: constant for constant in known.get("constants", [])}
    return type(name, (), namespace)


def _method(module: Any, path: str, parameters: Any, answers: Any, calls: Any) -> Any:
    def called(self: Any, *arguments: Any) -> Any:
        _check(module, path, parameters, arguments)
        calls.append((path, arguments))
        return answers[path](*arguments) if path in answers else None

    return called


def _property(path: str, name: str, answers: Any, calls: Any) -> property:
    def get(self: Any) -> Any:
        return self._set.get(name, answers[path]() if path in answers else None)

    def put(self: Any, value: Any) -> None:
        calls.append((path, (value,)))
        self._set[name] = value

    return property(get, put)


def _check(module: Any, path: str, parameters: Any, arguments: tuple[Any, ...]) -> None:
    least = sum(not optional for _, _, optional in parameters)
    if not least <= len(arguments) <= len(parameters):
        raise TypeError(f"{path} takes {least} to {len(parameters)} arguments, not {len(arguments)}")
    for (name, kind, _), value in zip(parameters, arguments, strict=False):
        wanted: Any = KINDS.get(kind) or getattr(module, kind, object)
        if not isinstance(value, wanted) or (kind == "int" and isinstance(value, bool)):
            raise TypeError(f"{path}: {name} is a {kind}, not {value!r}")
