"""Read files of `torch.save` without running code and without more memory than the file's size accounts for.

`torch.load` with `weights_only` runs no code, but it unpacks compressed archives of any size, and its pickles can ask
for memory and time that no file of that size needs.
"""

from __future__ import annotations

import io
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from attn_surgeon.text_files import opened

_CONTAINERS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}
_FORBIDDEN = {"__builtin__ bytearray", "builtins bytearray"}  # of any length, and filled at once
_MOST_VALUES = 10_000_000
_MARGIN = 16_000_000  # bytes
_MOST_VIEWS = 16  # tensors of one storage: of tied weights, for example
_LARGEST_PICKLE = 200_000_000  # bytes
_STREAMS = 5  # pickles in a file of the older format, before the storages


class UnboundedError(ValueError):
    """Report a file that asks for more memory or time than its size accounts for."""


def load_torch_file(path: Path) -> Any:
    """Return what a file of `torch.save` holds, on the CPU.

    Raises:
        UnboundedError: where the file asks for more memory or time than its size accounts for.
        Exception: whatever `torch.load` raises for a file that it cannot read.
    """
    with opened(path) as file:
        size = path.stat().st_size
        for pickle in _pickles(file, size):
            _require_modest(pickle)
    with warnings.catch_warnings(action="ignore"):
        content = torch.load(path, map_location="cpu", weights_only=True)
    _require_stored(content, size)
    return content


def _pickles(file: BinaryIO, size: int) -> Iterator[BinaryIO]:
    """Yield the pickles in a file, at their beginnings; raise ValueError for an archive that unpacks to more."""
    if not zipfile.is_zipfile(file):
        file.seek(0)
        for _ in range(_STREAMS):
            if file.tell() < size:
                yield file
        return
    with zipfile.ZipFile(file) as archive:
        declared = sum(entry.file_size for entry in archive.infolist())
        if declared > size:
            raise UnboundedError(f"its {size:,} bytes unpack to {declared:,}, which torch.save never writes")
        for entry in archive.infolist():
            if entry.filename.endswith("data.pkl"):
                yield io.BytesIO(archive.read(entry))


def _require_modest(pickle: BinaryIO) -> None:
    """Raise ValueError for a pickle that stands for too many values, of which one may be in many places."""
    stack: list[_Extent | None] = []
    memo: dict[Any, _Extent] = {}
    for operation, argument, position in pickletools.genops(pickle):
        if operation.name == "GLOBAL" and argument in _FORBIDDEN:
            raise UnboundedError(f"it holds {argument.split()[1]}, which no state dict does")
        if position is not None and position > _LARGEST_PICKLE:
            raise UnboundedError(f"its structure has more than {_LARGEST_PICKLE:,} bytes")
        _apply(operation, argument, stack, memo)
        if stack and stack[-1] is not None and stack[-1].values > _MOST_VALUES:
            raise UnboundedError(f"it stands for more than {_MOST_VALUES:,} values")


@dataclass
class _Extent:
    """For how many values an object stands."""

    values: int = 1


def _apply(operation: Any, argument: Any, stack: list[_Extent | None], memo: dict[Any, _Extent]) -> None:
    """Do to the extents what an operation of a pickle does to the objects; None is a mark on the stack."""
    name = operation.name
    if name in ("PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"):
        memo[len(memo) if name == "MEMOIZE" else argument] = _object(stack[-1])
    elif name in ("GET", "BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name == "MARK":
        stack.append(None)
    elif name == "DUP":
        stack.append(stack[-1])
    else:
        taken = _taken(operation, stack)
        values = sum(extent.values for extent in taken)
        if name in _CONTAINERS:  # which may be in other places already
            taken[-1].values = values
            stack.append(taken[-1])
        else:
            stack.extend(_Extent(1 + values) for _ in operation.stack_after)


def _object(extent: _Extent | None) -> _Extent:
    if extent is None:
        raise ValueError("its pickle is damaged")
    return extent


def _taken(operation: Any, stack: list[_Extent | None]) -> list[_Extent]:
    """Remove what an operation takes off the stack, from the top."""
    takes = [item.name for item in operation.stack_before]
    taken = []
    if "mark" in takes:
        while (extent := stack.pop()) is not None:
            taken.append(extent)
        takes = takes[: takes.index("mark")]
    return [*taken, *(_object(stack.pop()) for _ in takes)]


def _require_stored(content: object, size: int) -> None:
    """Raise ValueError where the tensors of a file have more values than the file."""
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(content) if not tensor.is_sparse)
    if held > _MOST_VIEWS * size + _MARGIN:
        raise UnboundedError(f"its {size:,} bytes stand for tensors of {held:,}")


def tensors_in(content: object) -> Iterator[Tensor]:
    """Yield the tensors in nested tables and lists, each once."""
    seen, left = set(), [content]
    while left:
        item = left.pop()
        if id(item) in seen:
            continue
        seen.add(id(item))
        if isinstance(item, Tensor):
            yield item
        elif isinstance(item, (dict, list, tuple)):
            left.extend(item.values() if isinstance(item, dict) else item)
