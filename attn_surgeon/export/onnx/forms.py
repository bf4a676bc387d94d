"""What grafts compute, in the operators that ONNX Runtime is fast at.

An outer product of a column and a row is a product of matrices; a mean over a map is a pooling, and one over one axis
of it too, once the length of that axis is known. Weights that multiply two things whose products are added up are read
once. A reduction over the channels of a single image, which the runtime does number by number, is several times as fast
in two steps, once the size of the map is known. The network's own nodes stay as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from attn_surgeon.export.network import in_graft

_MAP = 4  # axes of (N, C, H, W)
_REDUCTIONS = {"ReduceMax", "ReduceMean"}
_PRODUCTS = {"Conv", "Gemm", "MatMul"}


def quicken(model: Any) -> int:
    """Rewrite the grafts' nodes of an `onnx_ir.Model` in place; give how many changed."""
    grafts = [node for node in model.graph if in_graft(node.name or "")]
    halves: dict[int, Any] = {}
    return sum(any(form(node) for form in _FORMS) or _in_halves(node, halves) for node in grafts)


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
    if node.inputs[0].dtype == onnx_ir.DataType.DOUBLE:  # in which the runtime has no poolings
        return False
    node.op_type = "GlobalAveragePool" if whole else "AveragePool"
    node.resize_inputs(1)
    node.attributes.clear()
    if not whole:
        window = [side if axis in over else 1 for axis, side in enumerate(shape)][2:]
        node.attributes.add(onnx_ir.AttrInt64s("kernel_shape", window))
        node.attributes.add(onnx_ir.AttrInt64s("strides", window))
    return True


def _of_the_sum(node: Any) -> bool:
    """Multiply a sum by weights, in place of adding up two products with the same weights."""
    one, other = (value.producer() for value in node.inputs) if node.op_type == "Add" else (None, None)
    if one is None or other is None or one is other or one.op_type not in _PRODUCTS or not _alike(one, other):
        return False
    total = _insert(node, "Add", [one.inputs[0], other.inputs[0]], _shape(one.inputs[0]))
    biases = [_constant(node, "biases", 2 * value.const_value.numpy()) for value in one.inputs[2:]]
    node.op_type = one.op_type
    node.resize_inputs(2 + len(biases))
    for place, value in enumerate((total, one.inputs[1], *biases)):
        node.replace_input_with(place, value)
    for attribute in one.attributes.values():
        node.attributes.add(attribute)
    return True


def _alike(one: Any, other: Any) -> bool:
    """Say whether two products have inputs of one shape and the same constants, and only their sum is used."""
    for node in (one, other):
        if not in_graft(node.name or "") or node.outputs[0].is_graph_output() or len(node.outputs[0].uses()) > 1:
            return False
    if one.op_type != other.op_type or dict(one.attributes) != dict(other.attributes):
        return False
    constants = [value for node in (one, other) for value in node.inputs[1:]]
    if any(value is None or value.const_value is None for value in constants):
        return False
    shape = _shape(one.inputs[0])
    named = shape != () and all(getattr(side, "value", side) is not None for side in shape)
    return named and shape == _shape(other.inputs[0]) and constants[: len(constants) // 2] * 2 == constants


def _in_halves(node: Any, halves: dict[int, Any]) -> bool:
    """Reduce each half of the channels, then the two; keep the features in halves for other reductions."""
    shape, over = _reduced(node)
    if over != [1] or not _known(shape[1:]) or shape[1] % 2 or shape[1] == 2 or shape[2:] == (1, 1):
        return False
    features = node.inputs[0]
    maker = features.producer()
    if maker is not None and maker.op_type == "Transpose":  # the runtime reduces over another axis instead
        return False
    if id(features) not in halves:
        size = [2, shape[1] // 2, *shape[2:]]
        form = _constant(node, "form", np.array([0, *size]))
        halves[id(features)] = _insert(node, "Reshape", [features, form], [shape[0], *size])
    axes = _constant(node, "axes", np.array([2]))
    each = _insert(node, node.op_type, [halves[id(features)], axes], [shape[0], 2, *shape[2:]], keepdims=0)
    node.replace_input_with(0, each)
    return True


def _insert(before: Any, operator: str, inputs: Sequence[Any], shape: Sequence[Any], **attributes: int) -> Any:
    """Put a node into the graph; give what it makes, of this shape and of its first input's type."""
    import onnx_ir

    node = onnx_ir.node(operator, inputs, attributes, name=f"{before.name}/{operator}")
    (made,) = node.outputs
    made.name, made.dtype, made.shape = node.name, inputs[0].dtype, onnx_ir.Shape(shape)
    before.graph.insert_before(before, node)
    return made


def _constant(node: Any, name: str, values: Any) -> Any:
    """Give the graph a constant for a node."""
    import onnx_ir

    tensor = onnx_ir.tensor(values, name=f"{node.name}/{name}")
    made = onnx_ir.Value(name=tensor.name, const_value=tensor)
    node.graph.register_initializer(made)
    return made


def _reduced(node: Any) -> tuple[tuple[Any, ...], list[int]]:
    """Give the shape of a map and the axes over which this node reduces it, if it does and keeps these."""
    if node.op_type not in _REDUCTIONS or len(node.inputs) != 2 or node.inputs[1] is None or not _keeps(node):
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


_FORMS = (_as_product, _as_pooling, _of_the_sum)
