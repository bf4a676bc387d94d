"""Read files of `torch.save` without running code, and with memory and time in proportion to their size.

`torch.load` with `weights_only` runs no code, but a small file can still exhaust the memory: archives may be
compressed, and pickles may build objects of any size.
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
_FORBIDDEN = {"__builtin__ bytearray", "builtins bytearray"}  # a few bytes of pickle allocate any length
_MOST_VALUES = 10_000_000
_ALLOWANCE = 16_000_000  # bytes that tensors may always take
_MOST_VIEWS = 16  # tensors that share one storage, such as tied weights
_LARGEST_PICKLE = 200_000_000  # bytes
_STREAMS = 5  # pickles in a file of the older format, before the storages


class UnboundedError(ValueError):
    """Report a file that needs more memory or time to load than is in proportion to its size."""


def load_torch_file(path: Path) -> Any:
    """Return the content of a file of `torch.save`, on the CPU.

    Raises:
        UnboundedError: the file needs more memory or time than is in proportion to its size.
        Exception: any exception of `torch.load` for a file that it cannot read.
    """
    with opened(path) as file:
        size = path.stat().st_size
        for pickle in _pickles(file, size):
            _require_bounded(pickle)
    with warnings.catch_warnings(action="ignore"):
        content = torch.load(path, map_location="cpu", weights_only=True)
    _require_stored(content, size)
    return content


def _pickles(file: BinaryIO, size: int) -> Iterator[BinaryIO]:
    """Yield the file at the start of each pickle in it; raise UnboundedError for a compressed archive."""
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


def _require_bounded(pickle: BinaryIO) -> None:
    """Raise UnboundedError for a pickle that builds too many values; one object may be referenced many times."""
    stack: list[_Extent | None] = []
    memo: dict[Any, _Extent] = {}
    for operation, argument, position in pickletools.genops(pickle):
        if operation.name == "GLOBAL" and argument in _FORBIDDEN:
            raise UnboundedError(f"it contains a {argument.split()[1]}, which no state dict does")
        if position is not None and position > _LARGEST_PICKLE:
            raise UnboundedError(f"its structure has more than {_LARGEST_PICKLE:,} bytes")
        _apply(operation, argument, stack, memo)
        if stack and stack[-1] is not None and stack[-1].values > _MOST_VALUES:
            raise UnboundedError(f"it has more than {_MOST_VALUES:,} values")


@dataclass
class _Extent:
    """The number of values in an object, those of its items included."""

    values: int = 1


def _apply(operation: Any, argument: Any, stack: list[_Extent | None], memo: dict[Any, _Extent]) -> None:
    """Apply a pickle operation to the extents instead of to the objects; None is a mark on the stack."""
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
        if name in _CONTAINERS:  # it may be referenced elsewhere already
            taken[-1].values = values
            stack.append(taken[-1])
        else:
            stack.extend(_Extent(1 + values) for _ in operation.stack_after)


def _object(extent: _Extent | None) -> _Extent:
    if extent is None:
        raise ValueError("its pickle is damaged")
    return extent


def _taken(operation: Any, stack: list[_Extent | None]) -> list[_Extent]:
    """Pop the arguments of an operation from the stack."""
    takes = [item.name for item in operation.stack_before]
    taken = []
    if "mark" in takes:
        while (extent := stack.pop()) is not None:
            taken.append(extent)
        takes = takes[: takes.index("mark")]
    return [*taken, *(_object(stack.pop()) for _ in takes)]


def _require_stored(content: object, size: int) -> None:
    """Raise UnboundedError if the tensors of a file are much larger than the file."""
    held = sum(tensor.numel() * tensor.element_size() for tensor in tensors_in(content) if not tensor.is_sparse)
    if held > _MOST_VIEWS * size + _ALLOWANCE:
        raise UnboundedError(f"its {size:,} bytes contain tensors of {held:,}")


def tensors_in(content: object) -> Iterator[Tensor]:
    """Yield the tensors in nested dicts and lists, each once."""
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
