"""Means and maxima over a whole map, as the operators for that: they have forms in integers."""

from __future__ import annotations

from typing import Any

_FORMS = {"ReduceMean": "GlobalAveragePool", "ReduceMax": "GlobalMaxPool"}


def pool_globally(model: Any) -> int:
    """Rewrite an ONNX model in place: reductions over axes 2 and 3 that keep them; give how many there were."""
    from onnx import numpy_helper

    constants = {item.name: item for item in model.graph.initializer if item.dims == [2]}
    changed = 0
    for node in model.graph.node:
        axes = constants.get(node.input[1]) if node.op_type in _FORMS and len(node.input) == 2 else None
        if axes is None or _drops(node) or sorted(numpy_helper.to_array(axes).tolist()) not in ([2, 3], [-2, -1]):
            continue
        node.op_type = _FORMS[node.op_type]
        del node.input[1], node.attribute[:]
        changed += 1
    return changed


def _drops(node: Any) -> bool:
    """Say whether a reduction drops the axes it reduces."""
    return any(attribute.name == "keepdims" and attribute.i == 0 for attribute in node.attribute)
