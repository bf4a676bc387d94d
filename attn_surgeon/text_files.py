"""Read untrusted text, JSON and YAML files: UTF-8, of limited size, as plain data.

A small YAML file can expand to unlimited data by nested aliases. Its expanded size and depth are therefore checked
before anything is built from it.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

from attn_surgeon.errors import ErrorType, first_line

LARGEST_TEXT = 4_000_000  # bytes
_LARGEST_YAML = 400_000  # bytes; parsed in about a second
_MOST_VALUES = 50_000
_DEEPEST = 50
_LONGEST_VALUE = 20_000  # characters


def read_text(path: Path, kind: ErrorType, largest: int = LARGEST_TEXT) -> str:
    """Return the text of a UTF-8 file, without a byte order mark.

    Args:
        path: the file.
        kind: the class of the error to raise.
        largest: the maximum size in bytes.

    Raises:
        SurgeonError: if it cannot be read, is not a regular file, or is too large.
    """
    try:
        with opened(path) as file:
            return _decoded(file.read(largest + 1), largest)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or first_line(error)
        raise kind(f"the file cannot be read: {reason}", str(path)) from None


def _decoded(content: bytes, largest: int) -> str:
    if len(content) > largest:
        raise ValueError(f"it is larger than {largest:,} bytes")
    return content.decode("utf-8-sig")


def opened(path: Path) -> BinaryIO:
    """Open a regular file in binary mode; raise OSError for pipes and devices, which may never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(0, "it is not a regular file")
    return path.open("rb")


def read_json(path: Path, kind: ErrorType) -> Any:
    """Return the data in a JSON file; raise an error of class `kind` if it is invalid."""
    try:
        return parse_json(read_text(path, kind))
    except (ValueError, RecursionError) as error:
        raise kind(f"the file cannot be read: {first_line(error)}", str(path)) from None


def parse_json(text: str) -> Any:
    """Return the data in a JSON text; raise ValueError if it is invalid or a name occurs twice."""
    return json.loads(text, object_pairs_hook=_named_once)


def _named_once(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, Any]:
    values: dict[Any, Any] = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f"{name!r} stands there twice")
        values[name] = value
    return values


def read_yaml(path: Path, kind: ErrorType) -> Any:
    """Return the data in a YAML file; raise an error of class `kind` if it is invalid. No code is run."""
    import yaml

    try:
        return parse_yaml(read_text(path, kind, _LARGEST_YAML))
    except (ValueError, TypeError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise kind(f"the file cannot be read: {' '.join(str(error).split())}", str(path)) from None


def parse_yaml(text: str) -> Any:
    """Return the data in a YAML text; raise ValueError or yaml.YAMLError if it is invalid or too large.

    >>> parse_yaml("{a: [1, x], b: null}")
    {'a': [1, 'x'], 'b': None}
    >>> parse_yaml("{a: 1, a: 2}")
    Traceback (most recent call last):
    ValueError: 'a' stands there twice
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    extent = _Extent()
    for event in yaml.parse(text, Loader=loader):
        extent.add(event)

    class Loader(loader):  # type: ignore[misc, valid-type]
        """The safe loader, which rejects mappings with a name that occurs twice."""

    def construct(self: Any, node: Any, deep: bool = False) -> dict[Any, Any]:
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise ValueError("merge keys are not supported")
        items = ([self.construct_object(part, deep=True) for part in pair] for pair in node.value)
        return _named_once((name, value) for name, value in items)

    Loader.add_constructor("tag:yaml.org,2002:map", construct)
    return yaml.load(text, Loader=Loader)


class _Extent:
    """Count a YAML text's nesting depth, and its values with aliases expanded; raise ValueError beyond the limits."""

    def __init__(self) -> None:
        self.values = 0
        self.sizes: dict[str, int] = {}  # by anchor
        self.open: list[tuple[str | None, int]] = []

    def add(self, event: Any) -> None:
        """Count one event of the parser."""
        match type(event).__name__:
            case "AliasEvent":
                self._alias(event.anchor)
            case "ScalarEvent":
                self._start(event.anchor)
                self._end()
                if len(event.value) > _LONGEST_VALUE:
                    raise ValueError(f"a value is longer than {_LONGEST_VALUE:,} characters")
            case "MappingStartEvent" | "SequenceStartEvent":
                self._start(event.anchor)
            case "MappingEndEvent" | "SequenceEndEvent":
                self._end()
        if self.values > _MOST_VALUES:
            raise ValueError(f"it stands for more than {_MOST_VALUES:,} values")

    def _alias(self, anchor: str) -> None:
        if anchor not in self.sizes:
            raise ValueError(f"the alias {anchor!r} stands for nothing before it, or for itself")
        self.values += self.sizes[anchor]

    def _start(self, anchor: str | None) -> None:
        self.open.append((anchor, self.values))
        self.values += 1
        if len(self.open) > _DEEPEST:
            raise ValueError(f"it is nested more than {_DEEPEST} deep")

    def _end(self) -> None:
        anchor, before = self.open.pop()
        if anchor is not None:
            self.sizes[anchor] = self.values - before
