"""The description of a network's source, as recipes and artefacts store it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from attn_surgeon.errors import SourceError, nearest

Scalar: TypeAlias = "bool | int | float | str | tuple[Scalar, ...] | None"

KINDS = ("timm", "torchvision", "file", "module", "demo", "object")
_WHERE = "source"


@dataclass(frozen=True)
class SourceSpec:
    """Say which network is meant and which weights it starts from."""

    kind: str
    name: str
    args: Mapping[str, Scalar] = field(default_factory=dict)
    weights: str = "default"
    bare: bool = field(default=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        """Refuse a kind that does not exist."""
        if self.kind not in KINDS:
            hint = nearest(self.kind, KINDS) or f"known: {', '.join(KINDS)}"
            raise SourceError(f"unknown kind of source {self.kind!r}", _WHERE, hint)

    @property
    def text(self) -> str:
        """Return the source as a user would write it."""
        prefixes = {"timm": "timm/", "torchvision": "tv/"}
        return prefixes.get(self.kind, "") + self.name

    def to_dict(self) -> dict[str, Any]:
        """Return the description as plain JSON values."""
        args = {key: _plain(value) for key, value in self.args.items()}
        return {"kind": self.kind, "name": self.name, "args": args, "weights": self.weights}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SourceSpec:
        """Build the description from JSON values, checking every type."""
        if not isinstance(values, Mapping):
            raise SourceError(f"expected a table, got {values!r}", _WHERE)
        known = ("kind", "name", "args", "weights")
        if unknown := sorted(str(key) for key in values if key not in known):
            raise SourceError(f"unknown entry {', '.join(unknown)}", _WHERE, f"known: {', '.join(known)}")
        kind, name, weights = (
            _text(values, key, default) for key, default in (("kind", ""), ("name", ""), ("weights", "default"))
        )
        return cls(kind, name, _args(values.get("args", {})), weights)


def _text(values: Mapping[str, Any], key: str, default: str) -> str:
    """Take a string that is not empty."""
    value = values.get(key, default)
    if isinstance(value, str) and value:
        return value
    raise SourceError(f"{key} must be a string, got {value!r}", _WHERE)


def _args(values: object) -> dict[str, Scalar]:
    """Take a table of arguments."""
    if isinstance(values, Mapping) and all(isinstance(key, str) for key in values):
        return {key: scalar(value) for key, value in values.items()}
    raise SourceError(f"args must be a table, got {values!r}", _WHERE)


def scalar(value: object) -> Scalar:
    """Take a number, a string, a truth value, nothing, or a sequence of these."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (list, tuple)):
        return tuple(scalar(item) for item in value)
    raise SourceError(f"an argument can not be {value!r}", _WHERE, "numbers, strings, true, false and lists of them")


def _plain(value: Scalar) -> Any:
    """Turn tuples into the lists that JSON knows."""
    return [_plain(item) for item in value] if isinstance(value, tuple) else value
