"""Settings as frozen dataclasses whose fields have a help text and limits, with one validator for all callers.

Python callers construct the dataclass, `read_settings` reads files, and the command line has an option for each
field; all get the same checks and the same messages.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import field, fields
from typing import Any, TypeVar, get_type_hints

from attn_surgeon.errors import SettingsError, excerpt, nearest, option
from attn_surgeon.validation import validated

S = TypeVar("S")
_LARGEST_INTEGER = 10**9


def setting(default: Any, meaning: str, metavar: str | None = None, *, panel: str, **limits: Any) -> Any:
    """Return a dataclass field with its help text and limits.

    Args:
        default: the field's default.
        meaning: its help text.
        metavar: the placeholder for its value in the help.
        panel: the heading under which the help lists it.
        limits: `least`, `most`, `positive`, `fraction` (at least 0 and below 1), `choices`, `check` (a function that
            returns what is wrong with a value), `hint`, `near` (valid words, for suggestions) and
            `only` (the one task that uses the setting).
    """
    return field(default=default, metadata={"meaning": meaning, "metavar": metavar, "panel": panel, **limits})


def validate(settings: Any) -> None:
    """Raise SettingsError if a field's value is outside its limits."""
    for item in fields(settings):
        value, limits = getattr(settings, item.name), item.metadata
        if value is not None and (problem := _problem(value, **limits)):
            hint = limits.get("hint") or nearest(excerpt(value), limits.get("choices") or limits.get("near", ()))
            raise SettingsError(f"{option(item.name)} {problem}, got {_shown(value)}", "settings", hint)


def read_settings(kind: type[S], values: Mapping[str, Any], where: str) -> S:
    """Return settings from the values in a file.

    Args:
        kind: the dataclass.
        values: values by field name; dashes stand for underscores.
        where: the file, for errors.

    Raises:
        SettingsError: if a name is unknown, or a value has the wrong type or is outside its limits.
    """
    hints, limits = get_type_hints(kind), {item.name: item.metadata for item in fields(kind)}  # type: ignore[arg-type]
    named = {str(name).replace("-", "_"): value for name, value in values.items()}
    plain = {name: _undo_yaml(value, hints.get(name), limits.get(name, {})) for name, value in named.items()}
    return validated(kind, plain, SettingsError, where)


def _undo_yaml(value: Any, hint: Any, limits: Mapping[str, Any]) -> Any:
    """Return `no` and `1e-3` as meant: YAML reads an unquoted `no` as False and a number without a point as text."""
    if value is False and "no" in limits.get("choices", ()):
        return "no"
    if isinstance(value, str) and hint in (float, float | None):
        with suppress(ValueError):
            return float(value)
    return value


def _problem(
    value: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    positive: bool = False,
    fraction: bool = False,
    choices: tuple[str, ...] = (),
    check: Callable[[Any], str] = lambda value: "",
    **_: object,
) -> str:
    """Return the limit that a value violates, such as `must be above 0`, or an empty text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        return f"must be at most {_LARGEST_INTEGER:,}" if value > 0 else f"must be at least -{_LARGEST_INTEGER:,}"
    if least is not None and value < least:
        return f"must be at least {least}"
    if positive and value <= 0:
        return "must be above 0"
    if fraction and not 0 <= value < 1:
        return "must be at least 0 and below 1"
    if most is not None and value > most:
        return f"must be at most {most}"
    if choices and value not in choices:
        return f"must be one of {', '.join(choices)}"
    return check(value)


def _shown(value: object) -> str:
    text = excerpt(f"{value:g}" if isinstance(value, float) else value)
    return f"'{text}'" if isinstance(value, str) else text
