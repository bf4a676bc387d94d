"""The tensors inside what a module gives back: tuples, lists, dicts, and the output classes of other libraries."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from attn_surgeon.errors import LostGraftError

_LONGEST_INDEX = 9  # digits


def list_items(value: Any) -> list[tuple[str, Tensor]]:
    """List the tensors directly inside a value with the keys that name them."""
    if isinstance(value, Mapping):
        pairs = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (tuple, list)):
        pairs = [(str(index), item) for index, item in enumerate(value)]
    else:
        pairs = []
    return [(key, item) for key, item in pairs if isinstance(item, Tensor)]


def get_item(value: Any, key: str) -> Any:
    """Return the item that `key` names out of a tuple, list, dict or dataclass."""
    if isinstance(value, Mapping):
        return value[_own_key(value, key)]
    return getattr(value, _field(value, key)) if dataclasses.is_dataclass(value) else value[_index(value, key)]


def put_item(value: Any, key: str, item: Any) -> Any:
    """Return a copy of a tuple, list, dict or dataclass with another item under `key`."""
    if isinstance(value, Mapping):
        changed = copy.copy(value)
        changed[_own_key(value, key)] = item  # type: ignore[index]
        return changed
    if dataclasses.is_dataclass(value):
        return dataclasses.replace(value, **{_field(value, key): item})  # type: ignore[type-var]
    index = _index(value, key)
    items = [*value[:index], item, *value[index + 1 :]]
    if hasattr(value, "_make"):  # a named tuple
        return value._make(items)
    return items if isinstance(value, list) else tuple(items)


def _own_key(value: Mapping[Any, Any], key: str) -> Any:
    """Return a mapping's own key for its name: keys may be numbers."""
    for own in value:
        if str(own) == key:
            return own
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
    return LostGraftError(f"a graft is made for the item '{key}' of what is a {type(value).__name__} without it")
