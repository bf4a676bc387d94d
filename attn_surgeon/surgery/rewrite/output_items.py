"""Get and replace tensors in the outputs of modules: tuples, lists, dicts, and output classes of libraries."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from attn_surgeon.errors import LostGraftError

_LONGEST_INDEX = 9  # digits


def list_items(value: Any) -> list[tuple[str, Tensor]]:
    """Return the tensors that are items of a container, with their keys as text."""
    if isinstance(value, Mapping):
        pairs = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (tuple, list)):
        pairs = [(str(index), item) for index, item in enumerate(value)]
    else:
        pairs = []
    return [(key, item) for key, item in pairs if isinstance(item, Tensor)]


def get_item(value: Any, key: str) -> Any:
    """Return the item of a tuple, list, dict or dataclass whose key, as text, is `key`."""
    if isinstance(value, Mapping):
        return value[_original_key(value, key)]
    return getattr(value, _field(value, key)) if dataclasses.is_dataclass(value) else value[_index(value, key)]


def put_item(value: Any, key: str, item: Any) -> Any:
    """Return a copy of a tuple, list, dict or dataclass with another item under `key`."""
    if isinstance(value, Mapping):
        changed = copy.copy(value)
        changed[_original_key(value, key)] = item  # type: ignore[index]
        return changed
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **{_field(value, key): item})  # type: ignore[type-var]
    index = _index(value, key)
    items = [*value[:index], item, *value[index + 1 :]]
    if hasattr(value, "_make"):  # a named tuple
        return value._make(items)
    return items if isinstance(value, list) else tuple(items)


def _original_key(value: Mapping[Any, Any], key: str) -> Any:
    """Return the key of a mapping, which may be a number, from its text."""
    for original in value:
        if str(original) == key:
            return original
    raise _missing(value, key)


def _field(value: Any, key: str) -> str:
    if key not in {field.name for field in dataclasses.fields(value)}:
        raise _missing(value, key)
    return key


def _index(value: Any, key: str) -> int:
    if not isinstance(value, Sequence) or not key.isdecimal() or len(key) > _LONGEST_INDEX or int(key) >= len(value):
        raise _missing(value, key)
    return int(key)


def _missing(value: Any, key: str) -> LostGraftError:
    return LostGraftError(f"a graft takes the item '{key}', which this {type(value).__name__} does not have")
