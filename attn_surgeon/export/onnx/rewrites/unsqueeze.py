"""Merge two consecutive Unsqueeze nodes into one."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from attn_surgeon.export.onnx.rewrites.nodes import add_constant, shape_of


def merge_unsqueezes(model: Any) -> int:
    """Merge Unsqueeze(Unsqueeze(x, inner), outer) in an `onnx_ir.Model`, in place; return the number of merges."""
    return sum(_merge(node) for node in model.graph)


def _merge(node: Any) -> bool:
    inner = node.inputs[0].producer() if node.op_type == "Unsqueeze" and node.inputs[0] is not None else None
    if inner is None or inner.op_type != "Unsqueeze":
        return False
    rank = len(shape_of(inner.inputs[0]))
    first, second = _axes(inner), _axes(node)
    if not first or not second or (not rank and min(*first, *second) < 0):
        return False
    first = [axis % (rank + len(first)) if axis < 0 else axis for axis in first]
    second = [axis % (rank + len(first) + len(second)) if axis < 0 else axis for axis in second]
    axes = add_constant(node, "axes", np.array(merged_axes(first, second)))
    node.replace_input_with(0, inner.inputs[0])
    node.replace_input_with(1, axes)
    return True


def _axes(node: Any) -> list[int]:
    """Return the axes of an Unsqueeze node; empty where they are not constant."""
    constant = node.inputs[1].const_value
    return [] if constant is None else [int(axis) for axis in constant.numpy().reshape(-1)]


def merged_axes(inner: Sequence[int], outer: Sequence[int]) -> list[int]:
    """Return the axes of one Unsqueeze that is equal to two.

    >>> merged_axes([2], [2])
    [2, 3]
    >>> merged_axes([0], [3])
    [0, 3]
    """
    kept = list(itertools.islice((axis for axis in itertools.count() if axis not in outer), max(inner) + 1))
    return sorted([*outer, *(kept[axis] for axis in inner)])
