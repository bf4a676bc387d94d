"""Remove the nodes of grafts that do not change their input, and merge consecutive slices.

- x + 0, x · 1, Split into one part and Pad by nothing are x.
- Expand before an element-wise operator, whose other input already has the full shape, is left to the operator.
- Slice(Slice(x)) of different axes is one Slice, where all that takes the first is such a Slice.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from attn_surgeon.export.module import in_graft
from attn_surgeon.export.onnx.rewrites.nodes import add_constant, are_static, shape_of

_NEUTRAL = {"Add": 0, "Mul": 1}
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div"}


def remove_neutral(model: Any) -> int:
    """Remove the neutral nodes of grafts of an `onnx_ir.Model` in place; return the number of changed nodes."""
    grafts = [node for node in model.graph if in_graft(node.name or "") or node.op_type == "Split"]  # may be unnamed
    return sum(_remove(node) or _merge_slices(node) for node in grafts)


def _remove(node: Any) -> bool:
    kept = _unchanged_input(node)
    if kept is None or node.outputs[0].is_graph_output():
        return False
    node.outputs[0].replace_all_uses_with(kept)
    return True


def _unchanged_input(node: Any) -> Any:
    """Return the input that may take the place of a node's output; None for other nodes."""
    if node.op_type == "Split" and len(node.outputs) == 1:
        return node.inputs[0]
    if node.op_type == "Pad" and _is_constant(node.inputs[1], 0):
        return node.inputs[0]
    if node.op_type == "Expand" and _is_left_to_operators(node.outputs[0]):
        return node.inputs[0]
    for value, other in (node.inputs, node.inputs[::-1]) if node.op_type in _NEUTRAL else ():
        is_full = shape_of(value) != () and shape_of(value) == shape_of(node.outputs[0])
        if is_full and _is_constant(other, _NEUTRAL[node.op_type]):
            return value
    return None


def _is_constant(value: Any, number: int) -> bool:
    return value.const_value is not None and bool(np.all(value.const_value.numpy() == number))


def _is_left_to_operators(expanded: Any) -> bool:
    """Return whether only element-wise operators take a value, whose other inputs have its static shape."""
    if not shape_of(expanded) or not are_static(shape_of(expanded)):
        return False
    return all(
        node.op_type in _ELEMENTWISE
        and node.inputs[1 - index] is not expanded
        and shape_of(node.inputs[1 - index]) == shape_of(node.outputs[0])
        for node, index in expanded.uses()
    )


def _merge_slices(inner: Any) -> bool:
    """Merge a Slice into the Slices that take its result; return whether these are all that do."""
    output = inner.outputs[0]
    outer = [node for node, index in output.uses() if index == 0]
    if inner.op_type != "Slice" or not outer or len(outer) < len(output.uses()) or output.is_graph_output():
        return False
    if not all(_are_apart(inner, node) for node in outer):
        return False
    for node in outer:
        pairs = list(zip(inner.inputs[1:], node.inputs[1:], strict=True))
        node.replace_input_with(0, inner.inputs[0])
        for index, (name, pair) in enumerate(zip(("starts", "ends", "axes", "steps"), pairs, strict=True), start=1):
            joined = np.concatenate([value.const_value.numpy() for value in pair])
            node.replace_input_with(index, add_constant(node, name, joined))
    return True


def _are_apart(inner: Any, outer: Any) -> bool:
    """Return whether two Slices are of different axes, all constant."""
    if outer.op_type != "Slice" or not len(inner.inputs) == len(outer.inputs) == 5:
        return False
    if any(value is None or value.const_value is None for node in (inner, outer) for value in node.inputs[1:]):
        return False
    axes = [value.const_value.numpy().tolist() for value in (inner.inputs[3], outer.inputs[3])]
    return min(axes[0] + axes[1]) >= 0 and not {*axes[0]} & {*axes[1]}
