"""What grafts compute, in the operators that ONNX Runtime is fast at.

An outer product of a column and a row is a product of matrices; a mean over a map is a pooling, and one over one axis
of it too, once the length of that axis is known. What is reduced over the channels of a single image it goes through
number by number, and several times as fast in two steps, once the size of the map is known. The network's own nodes
stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attn_surgeon.export.network import in_graft

_MAP = 4  # axes of (N, C, H, W)
_REDUCTIONS = {"ReduceMax", "ReduceMean"}


def quicken(model: Any) -> int:
    """Rewrite the grafts' nodes of an `onnx_ir.Model` in place; give how many changed."""
    grafts = [node for node in model.graph if in_graft(node.name or "")]
    return sum(_as_product(node) or _as_pooling(node) or _in_halves(node) for node in grafts)


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
    """Take the mean over a whole map, which has an operator, or over its height or width by a window of that length."""
    import onnx_ir

    shape, over = _reduced(node)
    whole = sorted(over) == [2, 3]
    if node.op_type != "ReduceMean" or not (whole or (over in ([2], [3]) and _known(shape[2:]))):
        return False
    node.op_type = "GlobalAveragePool" if whole else "AveragePool"
    node.resize_inputs(1)
    node.attributes.clear()
    window = [side if axis in over else 1 for axis, side in enumerate(shape)][2:]
    for name in () if whole else ("kernel_shape", "strides"):
        node.attributes.add(onnx_ir.AttrInt64s(name, window))
    return True


def _in_halves(node: Any) -> bool:
    """Reduce each half of the channels, then the two."""
    shape, over = _reduced(node)
    if over != [1] or not _known(shape[1:]) or shape[1] % 2 or shape[2:] == (1, 1):
        return False
    maker = node.inputs[0].producer()
    if maker is not None and maker.op_type == "Transpose":  # the runtime reduces over another axis instead
        return False
    halves = _split(node, shape)
    each = _insert(node, node.op_type, halves, [2], keepdims=0)
    node.replace_input_with(0, each)
    each.shape = halves.shape.__class__([shape[0], 2, *shape[2:]])
    return True


def _split(node: Any, shape: Sequence[Any]) -> Any:
    """Give the features as (N, 2, C / 2, H, W); another reduction of them may have made that."""
    features, size = node.inputs[0], [0, 2, shape[1] // 2, *shape[2:]]
    for other, _ in features.uses():
        if other.op_type == "Reshape" and other.inputs[1].const_value.numpy().tolist() == size:
            return other.outputs[0]
    made = _insert(node, "Reshape", features, size)
    made.shape = features.shape.__class__([shape[0], *size[1:]])
    return made


def _insert(before: Any, operator: str, value: Any, constants: list[int], **attributes: int) -> Any:
    """Put a node of one tensor and constants into the graph; give what it makes."""
    import onnx_ir

    name = f"{before.name}/{operator}"
    numbers = onnx_ir.tensor(np.array(constants, np.int64), name=f"{name}/numbers")
    constant = onnx_ir.Value(name=numbers.name, const_value=numbers)
    before.graph.register_initializer(constant)
    node = onnx_ir.node(operator, [value, constant], attributes, name=name)
    node.outputs[0].name, node.outputs[0].dtype = name, value.dtype
    before.graph.insert_before(before, node)
    return node.outputs[0]


def _reduced(node: Any) -> tuple[tuple[Any, ...], list[int]]:
    """Give the shape of a map and the axes over which this node reduces it, if it does and keeps these."""
    if node.op_type not in _REDUCTIONS or len(node.inputs) != 2 or not _keeps(node):
        return (), []
    shape, axes = _shape(node.inputs[0]), node.inputs[1].const_value
    if len(shape) != _MAP or axes is None:
        return (), []
    return shape, [int(axis) % _MAP for axis in axes.numpy().tolist()]


def _known(sides: Sequence[Any]) -> bool:
    return all(isinstance(side, int) for side in sides)


def _shape(value: Any) -> tuple[Any, ...]:
    return () if value is None or value.shape is None else tuple(value.shape.dims)


def _keeps(node: Any) -> bool:
    given = node.attributes.get("keepdims")
    return given is None or given.as_int() == 1
