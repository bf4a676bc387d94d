"""Rewrite reductions over the height and width of a map as poolings, which have faster kernels and an int8 form.

ReduceMean(x, axes=[2, 3]) = GlobalAveragePool(x)
ReduceMax(x, axes=[2, 3])  = GlobalMaxPool(x)
ReduceMean(x, axes=[3])    = AveragePool(x, kernel_shape=[1, W])
"""

from __future__ import annotations

from typing import Any

from attn_surgeon.export.onnx.rewrites.nodes import are_static, reduction

_GLOBAL_POOLINGS = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def pool_globally(model: Any) -> int:
    """Rewrite the reductions over whole maps of an `onnx_ir.Model` in place; return their number."""
    return sum(as_global_pooling(node) for node in model.graph)


def as_global_pooling(node: Any) -> bool:
    """Rewrite a mean or maximum over height and width; return whether the node is one."""
    if sorted(reduction(node)[1]) != [2, 3] or _is_double(node):
        return False
    _to_pooling(node, _GLOBAL_POOLINGS[node.op_type])
    return True


def as_average_pooling(node: Any) -> bool:
    """Rewrite a mean over the height or the width of a map of static size; return whether the node is one."""
    import onnx_ir

    shape, axes = reduction(node)
    if node.op_type != "ReduceMean" or axes not in ([2], [3]) or not are_static(shape[2:]) or _is_double(node):
        return False
    _to_pooling(node, "AveragePool")
    window = [side if axis in axes else 1 for axis, side in enumerate(shape)][2:]
    for name in ("kernel_shape", "strides"):
        node.attributes.add(onnx_ir.AttrInt64s(name, window))
    return True


def _to_pooling(node: Any, operator: str) -> None:
    node.op_type = operator
    node.resize_inputs(1)
    node.attributes.clear()


def _is_double(node: Any) -> bool:
    import onnx_ir

    return bool(node.inputs[0].dtype == onnx_ir.DataType.DOUBLE)  # ONNX Runtime has no poolings for double
