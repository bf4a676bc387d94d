"""An ONNX file that somebody wrote: its parameters, and inputs to run it on."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attn_surgeon.errors import ExportError, first_line, nearest
from attn_surgeon.export.onnx.metadata import PREFIX
from attn_surgeon.export.onnx.runtime import Array

SUFFIX = ".onnx"
Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class Input:
    """An input's element type and shape, with None where an axis is open."""

    type: np.dtype[Any]
    shape: Shape


@dataclass(frozen=True)
class OnnxFile:
    """A file, the values that its weights hold, its inputs by name, and the height and width for open axes."""

    path: Path
    parameters: int
    inputs: Mapping[str, Input]
    size: tuple[int, int]
    notes: tuple[str, ...] = ()

    @property
    def image(self) -> tuple[int, ...]:
        """Give the first input's shape without its batch."""
        first = next(iter(self.inputs.values()))
        return _filled(first.shape, 1, self.size)[1:]

    def feeds(self, batch: int) -> dict[str, Array]:
        """Make seeded inputs; raise ExportError where the file is made for another batch only."""
        random = np.random.default_rng(0)
        return {name: _values(random, each, self._shape(each, batch)) for name, each in self.inputs.items()}

    def _shape(self, each: Input, batch: int) -> tuple[int, ...]:
        fixed = each.shape[0] if each.shape else None
        if fixed is not None and fixed != batch:
            raise ExportError(f"its batch is fixed at {fixed}", self.path.name, f"measure it with --batch {fixed}")
        return _filled(each.shape, batch, self.size)


def read_onnx(path: str, size: tuple[int, int] | None = None) -> OnnxFile:
    """Read what an ONNX file says of itself; raise ExportError where it is missing, damaged or none.

    Parameters are the values of its initialisers, without integers of 32 bits or more, which only say shapes; batch
    norms that were folded into convolutions are in these.
    """
    import onnx

    try:
        return _described(onnx.load(path, load_external_data=False), path, size)
    except OSError as error:
        beside = [file.name for file in Path(path).parent.glob(f"*{SUFFIX}")]
        near = nearest(Path(path).name, beside) if isinstance(error, FileNotFoundError) else ""
        raise ExportError(f"this file cannot be read: {error.strerror or error}", path, near) from None
    except ExportError:
        raise
    except Exception as error:  # protobuf's kinds of error differ by version, and damage shows in many ways
        raise ExportError(f"this is no ONNX file, or a damaged one: {first_line(error)}", path) from None


def _described(model: Any, path: str, size: tuple[int, int] | None) -> OnnxFile:
    weights = {item.name: item for item in model.graph.initializer}
    inputs = {value.name: _input(value) for value in model.graph.input if value.name not in weights}
    if not inputs or not model.graph.node:
        raise ValueError("it has no input or no node")
    _require_size(next(iter(inputs.values())).shape, size, path)
    held = sum(math.prod(item.dims) for item in weights.values() if _is_weight(item.data_type))
    return OnnxFile(Path(path), held, inputs, size or _told_size(model) or (224, 224))


def _require_size(shape: Shape, size: tuple[int, int] | None, path: str) -> None:
    """Refuse a size that a file is not made for."""
    if size is None or len(shape) != 4:
        return
    filled = _filled(shape, 1, size)
    if size not in (filled[1:3], filled[2:4]):
        fixed = "×".join("?" if side is None else str(side) for side in shape)
        raise ExportError(f"it is made for {fixed}", path, "leave --size out")


def _told_size(model: Any) -> tuple[int, int] | None:
    """Give the height and width that a file made by `export` tells of."""
    told = {item.key: item.value for item in model.metadata_props}.get(f"{PREFIX}preprocessing")
    if told is None:
        return None
    height, width = json.loads(told)["size"]
    return int(height), int(width)


def _is_weight(kind: int) -> bool:
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return bool(dtype.kind not in "iub" or (dtype.kind != "b" and dtype.itemsize == 1))


def _input(value: Any) -> Input:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(each.dim_value if each.HasField("dim_value") else None for each in kind.shape.dim)
    return Input(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), shape)


def _filled(shape: Shape, batch: int, size: tuple[int, int]) -> tuple[int, ...]:
    """Fill open axes: the batch, of images (N, C, H, W) or (N, H, W, C) the height and width, and 1 for others."""
    is_last = shape[1:2] == (None,) and shape[3:] != (None,)
    sides = [batch, *size] if is_last else [batch, 3, *size]
    guesses = [*sides, *[1] * len(shape)]
    return tuple(guess if side is None else side for side, guess in zip(shape, guesses, strict=False))


def _values(random: np.random.Generator, each: Input, shape: tuple[int, ...]) -> Array:
    if each.type.kind == "f":
        return random.standard_normal(shape).astype(each.type)
    return random.integers(0, 2 if each.type.kind == "b" else 128, shape).astype(each.type)
