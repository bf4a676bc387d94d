"""Read an ONNX file to profile: its number of parameters and the types and shapes of its inputs."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attn_surgeon.errors import ExportError, first_line, nearest, option
from attn_surgeon.export.file_metadata import PREFIX
from attn_surgeon.export.parity import Array
from attn_surgeon.memory import require_memory, size_of_tensors

ONNX_SUFFIX = ".onnx"
InputShape = tuple[int | None, ...]


@dataclass(frozen=True)
class InputSpec:
    """The element type and shape of an input, with None for dynamic axes."""

    type: np.dtype[Any]
    shape: InputShape


@dataclass(frozen=True)
class OnnxInput:
    """A file, its number of parameters, its inputs by name, and the height and width for dynamic axes."""

    path: Path
    parameters: int
    inputs: Mapping[str, InputSpec]
    size: tuple[int, int]
    notes: tuple[str, ...] = ()

    @property
    def image(self) -> tuple[int, ...]:
        """The shape of the first input without the batch axis."""
        first = next(iter(self.inputs.values()))
        return _filled(first.shape, 1, self.size)[1:]

    def feeds(self, batch: int) -> dict[str, Array]:
        """Return random inputs with a fixed seed; raise ExportError where the file takes another batch size only."""
        random = np.random.default_rng(0)
        shapes = {name: self._shape(each, batch) for name, each in self.inputs.items()}
        require_memory(size_of_tensors(shapes.values(), 8), "its input", self.path.name, "use a smaller size or batch")
        return {name: _values(random, each, shapes[name]) for name, each in self.inputs.items()}

    def _shape(self, each: InputSpec, batch: int) -> tuple[int, ...]:
        fixed = each.shape[0] if each.shape else None
        if fixed is not None and fixed != batch:
            hint = f"measure it with {option('batch', fixed)}"
            raise ExportError(f"its batch size is fixed at {fixed}", self.path.name, hint)
        return _filled(each.shape, batch, self.size)


def read_onnx(path: str, size: tuple[int, int] | None = None) -> OnnxInput:
    """Read the inputs and count the parameters of an ONNX file; raise ExportError where it cannot be read.

    Parameters are the elements of its initializers, without integers of 32 bits or more, which are shapes. Batch norms
    that were folded into convolutions are part of those.
    """
    import onnx

    try:
        return _described(onnx.load(path, load_external_data=False), path, size)
    except OSError as error:
        beside = [file.name for file in Path(path).parent.glob(f"*{ONNX_SUFFIX}")]
        near = nearest(Path(path).name, beside) if isinstance(error, FileNotFoundError) else ""
        raise ExportError(f"this file cannot be read: {error.strerror or error}", path, near) from None
    except ExportError:
        raise
    except Exception as error:  # protobuf's kinds of error differ by version, and damage shows in many ways
        raise ExportError(f"not an ONNX file, or a damaged one: {first_line(error)}", path) from None


def _described(model: Any, path: str, size: tuple[int, int] | None) -> OnnxInput:
    weights = {item.name: item for item in model.graph.initializer}
    inputs = {value.name: _input(value) for value in model.graph.input if value.name not in weights}
    if not inputs or not model.graph.node:
        raise ValueError("it has no input or no node")
    _require_size(next(iter(inputs.values())).shape, size, path)
    held = sum(math.prod(item.dims) for item in weights.values() if _is_weight(item.data_type))
    return OnnxInput(Path(path), held, inputs, size or _exported_size(model) or (224, 224))


def _require_size(shape: InputShape, size: tuple[int, int] | None, path: str) -> None:
    """Raise ExportError for a size that the file does not take."""
    if size is None or len(shape) != 4:
        return
    filled = _filled(shape, 1, size)
    if size not in (filled[1:3], filled[2:4]):
        fixed = "×".join("?" if side is None else str(side) for side in shape)
        raise ExportError(f"it takes {fixed}", path, f"leave {option('size')} out")


def _exported_size(model: Any) -> tuple[int, int] | None:
    """Return the height and width in the metadata of a file that `export` wrote."""
    preprocessing = {item.key: item.value for item in model.metadata_props}.get(f"{PREFIX}preprocessing")
    if preprocessing is None:
        return None
    height, width = json.loads(preprocessing)["size"]
    return int(height), int(width)


def _is_weight(kind: int) -> bool:
    import onnx

    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind)
    return bool(dtype.kind not in "iub" or (dtype.kind != "b" and dtype.itemsize == 1))


def _input(value: Any) -> InputSpec:
    import onnx

    kind = value.type.tensor_type
    shape = tuple(each.dim_value if each.HasField("dim_value") else None for each in kind.shape.dim)
    return InputSpec(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), shape)


def _filled(shape: InputShape, batch: int, size: tuple[int, int]) -> tuple[int, ...]:
    """Fill dynamic axes: the batch, the height and width of images (N, C, H, W) or (N, H, W, C), and 1 for others."""
    is_last = shape[1:2] == (None,) and shape[3:] != (None,)
    sides = [batch, *size] if is_last else [batch, 3, *size]
    guesses = [*sides, *[1] * len(shape)]
    return tuple(guess if side is None else side for side, guess in zip(shape, guesses, strict=False))


def _values(random: np.random.Generator, each: InputSpec, shape: tuple[int, ...]) -> Array:
    if each.type.kind == "f":
        return random.standard_normal(shape).astype(each.type)
    return random.integers(0, 2 if each.type.kind == "b" else 128, shape).astype(each.type)
