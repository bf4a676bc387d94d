"""Validate plain data, such as parsed JSON or YAML, against frozen dataclasses.

pydantic checks the types. Each class checks ranges, and values that depend on each other, in `__post_init__`.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import fields, is_dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast, get_args, get_type_hints

from attn_surgeon.errors import SurgeonError, nearest, option

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")
_LONGEST_TEXT = 300
_LONGEST_VALUE = 40
_MOST_DIGITS = 18  # every such number fits in 64 bits
_PLAIN_WORDS = {
    "a valid array": "a list",
    "a valid tuple": "a list",
    "a valid integer": "a whole number",
    "a valid number": "a number",
    "a valid string": "a string",
    "a valid boolean": "true or false",
    "an object": "a table",
    "a valid dictionary": "a table",
}


def read_count(text: str) -> int | None:
    """Return a text as a positive integer, or None if it is not one or has more than 18 digits.

    >>> read_count("224"), read_count("0"), read_count("-3"), read_count("9" * 5000)
    (224, None, None, None)
    """
    text = text.strip()
    return int(text) or None if len(text) <= _MOST_DIGITS and text.isdecimal() else None


def validated(kind: type[T], data: object, error: type[SurgeonError], where: str | None = None) -> T:
    """Return plain data as an instance of a type.

    Types are strict: `"8"`, `8.5` and `true` are no integers, and unknown names are errors. Lists become tuples.

    Args:
        kind: a dataclass, or another type that pydantic knows.
        data: a dict, list, string, number, boolean or None.
        error: the class of the error to raise.
        where: the file or part that the data is from; None for the options of a call, of which the error names the
            first that is invalid.

    Raises:
        SurgeonError: listing all faults in one line of at most 300 characters.

    >>> from dataclasses import dataclass
    >>> @dataclass(frozen=True)
    ... class Crop:
    ...     size: tuple[int, int]
    ...     padding: int = 0
    >>> validated(Crop, {"size": [32, 48]}, SurgeonError, "crop.json")
    Crop(size=(32, 48), padding=0)
    >>> validated(Crop, {"size": [32], "pading": 1}, SurgeonError, "crop.json")
    Traceback (most recent call last):
        ...
    attn_surgeon.errors.SurgeonError: size.1 is missing; pading is unknown, did you mean padding?; crop.json
    """
    from pydantic import ValidationError

    try:
        # as JSON, since strict validation of Python objects takes no dict for a dataclass and no list for a tuple
        values: tuple[T] = _adapter(cast(Hashable, kind)).validate_json(json.dumps([data]), strict=True)
    except ValidationError as invalid:
        faults = invalid.errors(include_url=False)
        first = faults[0]["loc"][1:2]
        place = option(str(first[0])) if where is None and first else where or ""
        raise error(_joined([_fault(dict(fault), kind) for fault in faults]), place) from None
    except (TypeError, ValueError, RecursionError) as invalid:
        line = " ".join(str(invalid).split())[:_LONGEST_TEXT]
        raise error(f"this is no plain data: {line}", where or "") from None
    return values[0]


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import ConfigDict, TypeAdapter

    # a dataclass of the standard library cannot be configured itself, but inherits that of a tuple around it
    return TypeAdapter(tuple[kind,], config=ConfigDict(extra="forbid"))


def _fault(fault: Mapping[str, Any], kind: type[Any]) -> str:
    """Return one fault as text, such as `images.size must be a list, got 32`."""
    path = [str(part) for part in fault["loc"][1:]]
    place, message = ".".join(path) or "the whole", str(fault["msg"])
    if fault["type"] in ("missing", "missing_argument"):
        return f"{place} is missing"
    if fault["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = nearest(path[-1], sorted(set(_names(kind))))
        return f"{place} is unknown, {near}" if near else f"{place} is unknown"
    if fault["type"] == "value_error":
        return f"{place}: {fault['ctx']['error']}"
    expected = message.partition("Input should be ")[2]
    must = f"must be {_PLAIN_WORDS.get(expected, expected)}" if expected else message
    shown = repr(fault["input"])
    return f"{place} {must}, got {shown if len(shown) <= _LONGEST_VALUE else shown[:_LONGEST_VALUE] + '…'}"


def _names(kind: Any) -> Iterator[str]:
    """Yield the names of all fields of a dataclass and of the dataclasses nested in it."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        for field in fields(kind):
            yield field.name
            yield from _names(hints[field.name])
    for part in get_args(kind):
        yield from _names(part)


def _joined(faults: Sequence[str]) -> str:
    """Return the distinct faults in one line, as many as fit."""
    distinct = list(dict.fromkeys(" ".join(fault.split())[:_LONGEST_TEXT] for fault in faults))
    shown = distinct[:1]
    for fault in distinct[1:]:
        if len("; ".join([*shown, fault])) > _LONGEST_TEXT - len("; and 999 more"):
            break
        shown.append(fault)
    more = len(distinct) - len(shown)
    return "; ".join([*shown, f"and {more} more"] if more else shown)
