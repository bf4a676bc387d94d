"""What grafts compute, in the operators that ONNX Runtime is fast at.

An outer product of a column and a row is a product of matrices; a mean over one axis of a map is a pooling, once the
length of that axis is known. The network's own nodes stay as they were.
"""

from __future__ import annotations

from typing import Any

from attn_surgeon.export.network import in_graft

_MAP = 4  # axes of (N, C, H, W)


def quicken(model: Any) -> int:
    """Rewrite the grafts' nodes of an `onnx_ir.Model` in place; give how many changed."""
    grafts = [node for node in model.graph if in_graft(node.name or "")]
    return sum(_as_product(node) or _as_pooling(node) for node in grafts)


def _as_product(node: Any) -> bool:
    """Multiply (N, C, H, 1) by (N, C, 1, W) as matrices: of one term each, so that nothing is rounded otherwise."""
    if node.op_type != "Mul":
        return False
    column, row = (_shape(value) for value in node.inputs)
    if not (len(column) == len(row) == _MAP and column[:2] == row[:2]):
        return False
    if not (column[3] == row[2] == 1 and column[2] != 1 and row[3] != 1):
        return False
    node.op_type = "MatMul"
    return True


def _as_pooling(node: Any) -> bool:
    """Take the mean over the height or the width by a window of that length."""
    import onnx_ir

    if node.op_type != "ReduceMean" or len(node.inputs) != 2 or not _keeps(node):
        return False
    shape, axes = _shape(node.inputs[0]), node.inputs[1].const_value
    over = [] if axes is None else [int(axis) % _MAP for axis in axes.numpy().tolist()]
    if len(shape) != _MAP or over not in ([2], [3]) or not all(isinstance(side, int) for side in shape[2:]):
        return False
    window = [side if axis in over else 1 for axis, side in enumerate(shape)][2:]
    node.op_type = "AveragePool"
    node.resize_inputs(1)
    node.attributes.clear()
    for name in ("kernel_shape", "strides"):
        node.attributes.add(onnx_ir.AttrInt64s(name, window))
    return True


def _shape(value: Any) -> tuple[Any, ...]:
    return () if value is None or value.shape is None else tuple(value.shape.dims)


def _keeps(node: Any) -> bool:
    given = node.attributes.get("keepdims")
    return given is None or given.as_int() == 1
