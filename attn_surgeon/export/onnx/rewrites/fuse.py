"""Rewrite the nodes of grafts into operators that are faster in ONNX Runtime.

- Mul of (N, C, H, 1) and (N, C, 1, W) becomes MatMul. Every sum has one term, so results are bit-identical.
- ReduceMean over a map, its height or its width becomes a pooling.
- A·W + B·W becomes (A + B)·W, which reads the weights once.
- A reduction over the channels of a map of static size becomes two steps: over each half of the channels, then over the
  two. ONNX Runtime reduces the channels element by element, and the two steps are several times as fast.

The nodes of the network itself are not changed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from attn_surgeon.export.module import in_graft
from attn_surgeon.export.onnx.rewrites.nodes import add_constant, are_static, insert_node, reduction, shape_of
from attn_surgeon.export.onnx.rewrites.pooling import as_average_pooling, as_global_pooling

_MAP_RANK = 4  # (N, C, H, W)
_PRODUCTS = {"Conv", "Gemm", "MatMul"}


def fuse_for_runtime(model: Any) -> int:
    """Rewrite the grafts' nodes of an `onnx_ir.Model` in place; return the number of changed nodes."""
    grafts = [node for node in model.graph if in_graft(node.name or "")]
    halves: dict[int, Any] = {}
    return sum(any(rule(node) for rule in _RULES) or _reduce_in_halves(node, halves) for node in grafts)


def _as_matmul(node: Any) -> bool:
    """Rewrite the product of (N, C, H, 1) and (N, C, 1, W); return whether the node is one."""
    if node.op_type != "Mul":
        return False
    column, row = (shape_of(value) for value in node.inputs)
    if not (len(column) == len(row) == _MAP_RANK and column[:2] == row[:2]):
        return False
    if not (column[3] == row[2] == 1 and column[2] != 1 and row[3] != 1):
        return False
    node.op_type = "MatMul"
    return True


def _as_pooling(node: Any) -> bool:
    return node.op_type == "ReduceMean" and (as_global_pooling(node) or as_average_pooling(node))


def _as_product_of_sum(node: Any) -> bool:
    """Rewrite the sum of two products with the same weights; return whether the node is one."""
    left, right = (value.producer() for value in node.inputs) if node.op_type == "Add" else (None, None)
    if left is None or right is None or left is right:
        return False
    if left.op_type not in _PRODUCTS or not _share_weights(left, right):
        return False
    total = insert_node(node, "Add", [left.inputs[0], right.inputs[0]], shape_of(left.inputs[0]))
    biases = [add_constant(node, "biases", 2 * value.const_value.numpy()) for value in left.inputs[2:]]
    node.op_type = left.op_type
    node.resize_inputs(2 + len(biases))
    for index, value in enumerate((total, left.inputs[1], *biases)):
        node.replace_input_with(index, value)
    for attribute in left.attributes.values():
        node.attributes.add(attribute)
    return True


def _share_weights(left: Any, right: Any) -> bool:
    """Return whether two products have the same constants and input shapes, and only their sum is used."""
    for node in (left, right):
        if not in_graft(node.name or "") or node.outputs[0].is_graph_output() or len(node.outputs[0].uses()) > 1:
            return False
    if left.op_type != right.op_type or dict(left.attributes) != dict(right.attributes):
        return False
    constants = [value for node in (left, right) for value in node.inputs[1:]]
    if any(value is None or value.const_value is None for value in constants):
        return False
    shape = shape_of(left.inputs[0])
    is_known = shape != () and all(getattr(side, "value", side) is not None for side in shape)
    return is_known and shape == shape_of(right.inputs[0]) and constants[: len(constants) // 2] * 2 == constants


def _reduce_in_halves(node: Any, halves: dict[int, Any]) -> bool:
    """Rewrite a reduction over channels in two steps; reductions of the same features share the Reshape."""
    shape, axes = reduction(node)
    if axes != [1] or not are_static(shape[1:]) or shape[1] % 2 or shape[1] == 2 or shape[2:] == (1, 1):
        return False
    features = node.inputs[0]
    producer = features.producer()
    if producer is not None and producer.op_type == "Transpose":  # ONNX Runtime then reduces over another axis
        return False
    if id(features) not in halves:
        size = [2, shape[1] // 2, *shape[2:]]
        new_shape = add_constant(node, "shape", np.array([0, *size]))
        halves[id(features)] = insert_node(node, "Reshape", [features, new_shape], [shape[0], *size])
    axes_2 = add_constant(node, "axes", np.array([2]))
    reduced = insert_node(node, node.op_type, [halves[id(features)], axes_2], [shape[0], 2, *shape[2:]], keepdims=0)
    node.replace_input_with(0, reduced)
    return True


_RULES = (_as_matmul, _as_pooling, _as_product_of_sum)
