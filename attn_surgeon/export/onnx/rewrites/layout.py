"""Replace consecutive Reshape and Transpose nodes of grafts by the fewest that give the same tensor.

A contiguous tensor that is reshaped and transposed is described by the sizes and strides of the input's elements along
each axis of the output. From these follow the nodes: a Reshape before, a Transpose, a Reshape after, where needed.
Unsqueeze, Squeeze, Flatten, and an Expand to the same shape count as Reshape. One axis may be dynamic.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from attn_surgeon.export.module import in_graft
from attn_surgeon.export.onnx.rewrites.nodes import add_constant, insert_node, shape_of

Shape = tuple[int, ...]
Part = tuple[int, int]  # size and stride
LayoutStep = tuple[str, Shape]  # Reshape and its shape, or Transpose and its permutation

_RESHAPES = {"Reshape", "Unsqueeze", "Squeeze", "Flatten", "Expand"}
_DYNAMIC = 1_000_003  # the size that stands for a dynamic axis: a prime, so that it is never divided


def merge_layouts(model: Any) -> int:
    """Merge the Reshape and Transpose nodes of grafts in an `onnx_ir.Model` in place; return the number of rewrites."""
    return sum(_merge(node) for node in reversed(list(model.graph)))


def _merge(last: Any) -> bool:
    nodes, output = _chain(last), last.outputs[0]
    values = [nodes[0].inputs[0], *(node.outputs[0] for node in nodes)] if nodes and output.uses() else []
    shapes = _sizes([shape_of(value) for value in values])
    axes = _follow(nodes, shapes) if shapes else None
    if axes is None:
        return False
    steps = fewest_steps(shapes[0], axes, shapes[-1])
    if len(steps) >= len(nodes) or (not steps and output.is_graph_output()):
        return False
    _write(last, values[0], steps, [side for side in shape_of(output) if not isinstance(side, int)])
    return True


def _chain(node: Any) -> list[Any]:
    """Return the consecutive layout nodes that end at a node; only the last one's result has other uses."""
    nodes: list[Any] = []
    while node is not None and _is_layout(node):
        if nodes and (len(node.outputs[0].uses()) > 1 or node.outputs[0].is_graph_output()):
            break
        nodes.insert(0, node)
        node = node.inputs[0].producer()
    return nodes


def _is_layout(node: Any) -> bool:
    if not in_graft(node.name or "") or (node.op_type != "Transpose" and node.op_type not in _RESHAPES):
        return False
    return node.op_type != "Expand" or shape_of(node.inputs[0]) == shape_of(node.outputs[0])


def _sizes(shapes: Sequence[tuple[Any, ...]]) -> list[Shape]:
    """Return shapes as integers, the dynamic axis as a prime; empty for several dynamic axes or unknown sizes."""
    sides = [side for shape in shapes for side in shape]
    dynamic = {str(side) for side in sides if not isinstance(side, int)}
    if not all(shapes) or len(dynamic) > 1 or "None" in dynamic or 0 in sides:
        return []
    return [tuple(side if isinstance(side, int) else _DYNAMIC for side in shape) for shape in shapes]


def _follow(nodes: Sequence[Any], shapes: Sequence[Shape]) -> list[list[Part]] | None:
    axes: list[list[Part]] | None = [[part] for part in contiguous(shapes[0])]
    for node, shape in zip(nodes, shapes[1:], strict=True):
        if axes is None:
            return None
        if node.op_type == "Transpose":
            perm = node.attributes["perm"].as_ints() if "perm" in node.attributes else range(len(shape))[::-1]
            axes = [axes[axis] for axis in perm]
        else:
            axes = reshaped(axes, shape)
    return axes


def contiguous(shape: Shape) -> list[Part]:
    """Return the size and stride of each axis of a contiguous tensor.

    >>> contiguous((2, 3, 4))
    [(2, 12), (3, 4), (4, 1)]
    """
    strides = itertools.accumulate(shape[:0:-1], lambda stride, side: stride * side, initial=1)
    return list(zip(shape, reversed(list(strides)), strict=True))


def reshaped(axes: Sequence[Sequence[Part]], shape: Shape) -> list[list[Part]] | None:
    """Return the parts of each axis after a reshape; None where a size does not divide another.

    >>> reshaped([[(6, 1)]], (2, 3))
    [[(2, 3)], [(3, 1)]]
    """
    parts = [part for axis in axes for part in axis if part[0] > 1]
    result: list[list[Part]] = []
    for side in shape:
        result.append([])
        left = side
        while left > 1 and parts:
            size, stride = parts.pop(0)
            if size > left and size % left == 0:
                parts.insert(0, (size // left, stride))
                size, stride = left, stride * (size // left)
            if left % size:
                return None
            result[-1].append((size, stride))
            left //= size
        if left > 1:
            return None
    return None if parts else result


def fewest_steps(before: Shape, axes: Sequence[Sequence[Part]], after: Shape) -> list[LayoutStep]:
    """Return the Reshapes and Transposes that turn a contiguous tensor into one of these axes.

    >>> fewest_steps((6, 4), [[(4, 1)], [(2, 12)], [(3, 4)]], (4, 2, 3))
    [('Transpose', (1, 0)), ('Reshape', (4, 2, 3))]
    """
    whole = merged([part for axis in axes for part in axis])
    if len(whole) < 2:
        return [] if before == after else [("Reshape", after)]
    middles = [sorted(whole, key=_by_stride), contiguous(before)]
    targets = [merged(axis) for axis in axes]
    if all(len(parts) < 2 for parts in targets):
        middles.append(sorted((parts[0] if parts else (1, 0) for parts in targets), key=_by_stride))
    return min((steps for middle in middles if (steps := _steps(before, middle, whole, after))), key=len)


def _by_stride(part: Part) -> int:
    return -part[1]


def merged(parts: Sequence[Part]) -> list[Part]:
    """Merge the parts that follow each other in memory, and leave out those of size one.

    >>> merged([(2, 12), (1, 5), (3, 4), (4, 3)])
    [(6, 4), (4, 3)]
    """
    result: list[Part] = []
    for size, stride in parts:
        if result and size > 1 and result[-1][1] == size * stride:
            result[-1] = (result[-1][0] * size, stride)
        elif size > 1:
            result.append((size, stride))
    return result


def _steps(before: Shape, middle: Sequence[Part], whole: Sequence[Part], after: Shape) -> list[LayoutStep]:
    """Return the steps through a Transpose of the parts in the middle; empty where they cannot give the output."""
    order = _order(middle, whole)
    if order is None:
        return []
    units = [index for index, (size, _) in enumerate(middle) if size == 1]
    perm: list[int] = []
    for side in after:  # axes of size one go where the output has them, as far as it does
        source = units if side == 1 else order
        perm += source[:1]
        del source[:1]
    perm += [*units, *order]
    shape = tuple(size for size, _ in middle)
    steps: list[LayoutStep] = [] if shape == before else [("Reshape", shape)]
    steps.append(("Transpose", tuple(perm)))
    return steps if tuple(shape[axis] for axis in perm) == after else [*steps, ("Reshape", after)]


def _order(middle: Sequence[Part], whole: Sequence[Part]) -> list[int] | None:
    """Return the order in which the output takes the parts in the middle; None where it splits one."""
    by_end = {size * stride: index for index, (size, stride) in enumerate(middle) if size > 1}
    order: list[int] = []
    for size, stride in whole:
        left = size
        while left > 1:
            index = by_end.get(left * stride)
            if index is None or left % middle[index][0]:
                return None
            order.append(index)
            left //= middle[index][0]
    return order


def _write(last: Any, value: Any, steps: Sequence[LayoutStep], dynamic: Sequence[Any]) -> None:
    """Insert the steps before the last node of the chain, and make this node the last step."""
    if not steps:
        last.outputs[0].replace_all_uses_with(value)
    for index, (operator, sides) in enumerate(steps):
        shape = [value.shape[axis] for axis in sides] if operator == "Transpose" else list(sides)
        inputs, attributes = _arguments(last, value, operator, sides)
        if index < len(steps) - 1:
            shape = [dynamic[0] if side == _DYNAMIC else side for side in shape]
            value = insert_node(last, operator, inputs, shape, **attributes)
        else:
            _replace(last, operator, inputs, attributes)


def _arguments(last: Any, value: Any, operator: str, sides: Shape) -> tuple[list[Any], dict[str, Any]]:
    if operator == "Transpose":
        return [value], {"perm": list(sides)}
    shape = np.array([-1 if side == _DYNAMIC else side for side in sides], np.int64)
    return [value, add_constant(last, f"shape_{len(sides)}", shape)], {}


def _replace(node: Any, operator: str, inputs: Sequence[Any], attributes: dict[str, Any]) -> None:
    import onnx_ir

    node.op_type = operator
    node.attributes.clear()
    node.resize_inputs(len(inputs))
    for index, value in enumerate(inputs):
        node.replace_input_with(index, value)
    for name, numbers in attributes.items():
        node.attributes.add(onnx_ir.AttrInt64s(name, numbers))
