"""Two insertions of axes in a row, as one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from attn_surgeon.export.onnx.rewrites.nodes import add_constant


def merge_unsqueezes(model: Any) -> int:
    """Rewrite Unsqueeze(Unsqueeze(x, inner), outer) of an `onnx_ir.Model` in place; return how many there were."""
    return sum(_merge(node) for node in model.graph)


def _merge(node: Any) -> bool:
    inner = node.inputs[0].producer() if node.op_type == "Unsqueeze" and node.inputs[0] is not None else None
    if inner is None or inner.op_type != "Unsqueeze":
        return False
    first, second = _axes(inner), _axes(node)
    if not first or not second:
        return False
    axes = add_constant(node, "axes", np.array(merged_axes(first, second)))
    node.replace_input_with(0, inner.inputs[0])
    node.replace_input_with(1, axes)
    return True


def _axes(node: Any) -> list[int]:
    """Return the axes that a node inserts, empty where they are computed or count from the end."""
    constant = node.inputs[1].const_value
    axes = [] if constant is None else [int(axis) for axis in constant.numpy().reshape(-1)]
    return axes if all(axis >= 0 for axis in axes) else []


def merged_axes(inner: Sequence[int], outer: Sequence[int]) -> list[int]:
    """Return the axes that one insertion makes in place of two.

    >>> merged_axes([2], [2])
    [2, 3]
    >>> merged_axes([0], [3])
    [0, 3]
    """
    others = itertools.islice((axis for axis in itertools.count() if axis not in outer), max(inner) + 1)
    kept = list(others)
    return sorted([*outer, *(kept[axis] for axis in inner)])
