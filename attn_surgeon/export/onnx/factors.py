"""A gate's factor of two goes into the convolution before the graft, which takes a node out of the file.

y = x · 2σ(z(x)) is y = 2x · σ(z(x)): the convolution that makes x makes 2x instead, and what is linear in x on the way
to z halves its weights. That changes no digit of any value, unless one leaves the range of its type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attn_surgeon.export.module import in_graft

_FACTOR = 2
_PRODUCTS = {"Mul", "MatMul"}
_VIEWS = {"Concat", "Flatten", "Reshape", "Squeeze", "Transpose", "Unsqueeze"}
_POOLINGS = {"AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "ReduceMax", "ReduceMean"}
_LINEAR = {"Conv", "Gemm", "MatMul"}  # of an input and constant weights


def move_factors(model: Any) -> int:
    """Rewrite the grafts of an `onnx_ir.Model` in place; give how many factors moved."""
    grafts = [node for node in model.graph if in_graft(node.name or "")]
    return sum(_moved(node) for node in grafts)


def _moved(node: Any) -> bool:
    """Move the factor of this node, if it is a multiplication by one that can go."""
    gate = _doubled(node)
    met = None if gate is None else _met(node.outputs[0])
    if met is None:
        return False
    product, features = met
    weights = _linear_in(features, product)
    if weights is None:
        return False
    for value in features.producer().inputs[1:]:
        _scale(value, _FACTOR)
    for value in weights:
        _scale(value, 1 / _FACTOR)
    node.outputs[0].replace_all_uses_with(gate)
    return True


def _doubled(node: Any) -> Any:
    """Return the value that this node multiplies by two."""
    for gate, other in (node.inputs, node.inputs[::-1]) if node.op_type == "Mul" else ():
        constant = None if other is None else other.const_value
        if constant is not None and not constant.shape.dims and float(constant.numpy()) == _FACTOR:
            return gate
    return None


def _met(value: Any) -> tuple[Any, Any] | None:
    """Find where a gate, alone or after other gates, meets features; and those as a convolution made them."""
    while len(value.uses()) == 1 and not value.is_graph_output():
        (node, _), *_ = value.uses()
        if not _is_grafts(node) or node.op_type not in _PRODUCTS | _VIEWS - {"Concat"}:
            return None
        for other in node.inputs if node.op_type == "Mul" else ():
            features = None if other is value else _made(other)
            if features is not None:
                return node, features
        value = node.outputs[0]
    return None


def _made(value: Any) -> Any:
    """Go back from features, through their other gates, to the convolution that made them with weights of its own."""
    maker = value.producer()
    if maker is None or value.is_graph_output():
        return None
    if maker.op_type == "Mul" and in_graft(maker.name or ""):
        return next((made for made in map(_made, maker.inputs) if made is not None), None)
    own = all(_is_weight(each) and len(each.uses()) == 1 for each in maker.inputs[1:] if each is not None)
    return value if maker.op_type == "Conv" and own else None


def _linear_in(features: Any, product: Any) -> list[Any] | None:
    """List the weights that the features meet on their other ways; None where one meets something else."""
    seen, linear, joined = {id(features): features}, [], []
    todo = [features]
    while todo:
        for node, place in todo.pop().uses():
            if node is product:
                continue
            if not _is_grafts(node) or len(node.outputs) > 1 or node.outputs[0].is_graph_output():
                return None
            if node.op_type in _LINEAR and place == 0 and _is_weight(node.inputs[1]):
                linear.append(node)
                continue
            if node.op_type not in _POOLINGS | _VIEWS | {"Mul"}:
                return None
            joined.append(node)
            todo += [] if id(node.outputs[0]) in seen else [node.outputs[0]]
            seen[id(node.outputs[0])] = node.outputs[0]
    weights = {id(node.inputs[1]): node.inputs[1] for node in linear}
    shared = any(use.node not in linear for value in weights.values() for use in value.uses())
    kept = all(_keeps_scale(node, seen) for node in [*joined, product])
    return None if shared or not kept else list(weights.values())


def _keeps_scale(node: Any, scaled: Mapping[int, Any]) -> bool:
    """Return whether the output scales with all inputs at once, or with one factor of a product."""
    among = [id(value) in scaled for value in node.inputs]
    if node.op_type == "Concat":
        return all(among)
    return sum(among) == 1


def _is_grafts(node: Any) -> bool:
    """Return whether a node belongs to a graft, or may: nodes that only compute shapes lose their names in slimming."""
    return node.op_type in _VIEWS or in_graft(node.name or "")


def _is_weight(value: Any) -> bool:
    """Return whether a value is a constant that is neither an input nor an output of the graph."""
    if value is None or value.const_value is None or not value.is_initializer():
        return False
    return not (value.is_graph_input() or value.is_graph_output())


def _scale(value: Any, factor: float) -> None:
    """Multiply constants; there may be none, as a convolution's biases."""
    import onnx_ir

    if value is not None:
        values = value.const_value.numpy()
        value.const_value = onnx_ir.tensor(values * values.dtype.type(factor), name=value.name)
