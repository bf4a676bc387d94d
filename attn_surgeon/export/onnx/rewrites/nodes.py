"""Read and add nodes, values and initializers of an `onnx_ir` graph."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

_MAP_RANK = 4  # (N, C, H, W)
_REDUCTIONS = {"ReduceMax", "ReduceMean"}


def shape_of(value: Any) -> tuple[Any, ...]:
    """Return the shape of a value, with symbols for dynamic axes; empty where it is unknown."""
    return () if value is None or value.shape is None else tuple(value.shape.dims)


def are_static(sides: Sequence[Any]) -> bool:
    """Return whether all sides are static."""
    return all(isinstance(side, int) for side in sides)


def reduction(node: Any) -> tuple[tuple[Any, ...], list[int]]:
    """Return the input shape (N, C, H, W) and the axes of a reduction with keepdims; both empty for other nodes."""
    if node.op_type not in _REDUCTIONS or len(node.inputs) != 2 or node.inputs[1] is None or not _keeps_axes(node):
        return (), []
    shape, axes = shape_of(node.inputs[0]), node.inputs[1].const_value
    if len(shape) != _MAP_RANK or axes is None:
        return (), []
    return shape, [int(axis) % _MAP_RANK for axis in axes.numpy().tolist()]


def _keeps_axes(node: Any) -> bool:
    keepdims = node.attributes.get("keepdims")
    return keepdims is None or keepdims.as_int() == 1


def add_constant(node: Any, name: str, values: Any) -> Any:
    """Add an initializer to the graph of a node, and return it."""
    import onnx_ir

    tensor = onnx_ir.tensor(values, name=f"{node.name}/{name}")
    initializer = onnx_ir.Value(name=tensor.name, const_value=tensor)
    node.graph.register_initializer(initializer)
    return initializer


def insert_node(before: Any, operator: str, inputs: Sequence[Any], shape: Sequence[Any], **attributes: Any) -> Any:
    """Insert a node before another, and return its output, of this shape and the dtype of its first input."""
    import onnx_ir

    node = onnx_ir.node(operator, inputs, attributes, name=f"{before.name}/{operator}")
    (output,) = node.outputs
    output.name, output.dtype, output.shape = node.name, inputs[0].dtype, onnx_ir.Shape(shape)
    before.graph.insert_before(before, node)
    return output
