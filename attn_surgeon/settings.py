"""Settings as frozen dataclasses: each field has a meaning and limits, and one validator serves all callers.

Python callers construct the dataclass, files are read by `read_settings`, and the command line makes an option of each
field; all of them get the same checks and the same messages.
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
_LARGEST = 10**9  # of whole numbers


def setting(default: Any, meaning: str, metavar: str | None = None, *, panel: str, **limits: Any) -> Any:
    """Return a dataclass field with its help text and limits.

    Args:
        default: the field's default.
        meaning: its help text.
        metavar: what stands for its value in the help.
        panel: the heading under which the help lists it.
        limits: `least`, `most`, `positive`, `fraction` (at least 0 and below 1), `choices`, `check` (a function that
            returns what is wrong with a value), `hint`, `near` (words to suggest the nearest of) and `only` (the one
            task that the setting is for).
    """
    return field(default=default, metadata={"meaning": meaning, "metavar": metavar, "panel": panel, **limits})


def validate(settings: Any) -> None:
    """Raise SettingsError where a field's value is outside its limits."""
    for item in fields(settings):
        value, limits = getattr(settings, item.name), item.metadata
        if value is not None and (problem := _problem(value, **limits)):
            hint = limits.get("hint") or nearest(excerpt(value), limits.get("choices") or limits.get("near", ()))
            raise SettingsError(f"{option(item.name)} {problem}, got {_shown(value)}", "settings", hint)


def read_settings(kind: type[S], values: Mapping[str, Any], where: str) -> S:
    """Return settings from the plain values of a file.

    Args:
        kind: the dataclass.
        values: values by the names of its fields, which may be written with dashes.
        where: the file, for errors.

    Raises:
        SettingsError: if a name is unknown, or a value has the wrong type or is outside its limits.
    """
    hints, known = get_type_hints(kind), {item.name: item.metadata for item in fields(kind)}  # type: ignore[arg-type]
    named = {str(name).replace("-", "_"): value for name, value in values.items()}
    plain = {name: _as_meant(value, hints.get(name), known.get(name, {})) for name, value in named.items()}
    return validated(kind, plain, SettingsError, where)


def _as_meant(value: Any, hint: Any, limits: Mapping[str, Any]) -> Any:
    """Return a value that YAML reads differently than it is meant: an unquoted `no`, and 1e-3, which has no point."""
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
    """Return what a value must be and is not, or an empty text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    if isinstance(value, int) and abs(value) > _LARGEST:
        return f"must be at most {_LARGEST:,}" if value > 0 else f"must be at least -{_LARGEST:,}"
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
