"""Fold the factor of two of a gate into the convolution before the graft, which removes a node.

y = x · 2σ(z(x)) equals y = 2x · σ(z(x)). So the weights of the convolution that computes x are doubled, and those of
the linear operators between x and z are halved. A factor of two changes no digit of a value that stays in range.
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
    """Fold the factors of the grafts of an `onnx_ir.Model` in place; return their number."""
    grafts = [node for node in model.graph if in_graft(node.name or "")]
    return sum(_fold(node) for node in grafts)


def _fold(node: Any) -> bool:
    """Fold the factor of a node; return whether it is a multiplication by two that could be folded."""
    gate = _doubled_value(node)
    pair = None if gate is None else _gated_product(node.outputs[0])
    if pair is None:
        return False
    product, features = pair
    weights = _linear_weights(features, product)
    if weights is None:
        return False
    for value in features.producer().inputs[1:]:
        _scale(value, _FACTOR)
    for value in weights:
        _scale(value, 1 / _FACTOR)
    node.outputs[0].replace_all_uses_with(gate)
    return True


def _doubled_value(node: Any) -> Any:
    """Return the value that a node multiplies by two; None for other nodes."""
    for gate, factor in (node.inputs, node.inputs[::-1]) if node.op_type == "Mul" else ():
        constant = None if factor is None else factor.const_value
        if constant is not None and not constant.shape.dims and float(constant.numpy()) == _FACTOR:
            return gate
    return None


def _gated_product(value: Any) -> tuple[Any, Any] | None:
    """Return the product of a gate, or of several gates, with features, and the convolution's output that these are."""
    while len(value.uses()) == 1 and not value.is_graph_output():
        (node, _), *_ = value.uses()
        if not _is_grafts(node) or node.op_type not in _PRODUCTS | _VIEWS - {"Concat"}:
            return None
        for other in node.inputs if node.op_type == "Mul" else ():
            features = None if other is value else _convolution_output(other)
            if features is not None:
                return node, features
        value = node.outputs[0]
    return None


def _convolution_output(value: Any) -> Any:
    """Return the output of the convolution that computed features, before further gates; None for other features.

    The weights of the convolution must not be shared.
    """
    producer = value.producer()
    if producer is None or value.is_graph_output():
        return None
    if producer.op_type == "Mul" and in_graft(producer.name or ""):
        return next((found for found in map(_convolution_output, producer.inputs) if found is not None), None)
    unshared = all(_is_weight(item) and len(item.uses()) == 1 for item in producer.inputs[1:] if item is not None)
    return value if producer.op_type == "Conv" and unshared else None


def _linear_weights(features: Any, product: Any) -> list[Any] | None:
    """Return the weights to halve when features are doubled, those of the linear operators that take them.

    None where the features reach an operator that is not linear, or whose result would not scale by exactly two.
    """
    scaled, linear, passing = {id(features): features}, [], []
    waiting = [features]
    while waiting:
        for node, index in waiting.pop().uses():
            if node is product:
                continue
            if not _is_grafts(node) or len(node.outputs) > 1 or node.outputs[0].is_graph_output():
                return None
            if node.op_type in _LINEAR and index == 0 and _is_weight(node.inputs[1]):
                linear.append(node)
                continue
            if node.op_type not in _POOLINGS | _VIEWS | {"Mul"}:
                return None
            passing.append(node)
            waiting += [] if id(node.outputs[0]) in scaled else [node.outputs[0]]
            scaled[id(node.outputs[0])] = node.outputs[0]
    weights = {id(node.inputs[1]): node.inputs[1] for node in linear}
    shared = any(use.node not in linear for value in weights.values() for use in value.uses())
    scales = all(_scales(node, scaled) for node in [*passing, product])
    return None if shared or not scales else list(weights.values())


def _scales(node: Any, scaled: Mapping[int, Any]) -> bool:
    """Return whether the output scales as the inputs: all of a concatenation, exactly one of a product."""
    are_scaled = [id(value) in scaled for value in node.inputs]
    if node.op_type == "Concat":
        return all(are_scaled)
    return sum(are_scaled) == 1


def _is_grafts(node: Any) -> bool:
    """Return whether a node is, or may be, of a graft: nodes that only compute shapes lose their scoped names."""
    return node.op_type in _VIEWS or in_graft(node.name or "")


def _is_weight(value: Any) -> bool:
    """Return whether a value is a constant that is neither an input nor an output of the graph."""
    if value is None or value.const_value is None or not value.is_initializer():
        return False
    return not (value.is_graph_input() or value.is_graph_output())


def _scale(value: Any, factor: float) -> None:
    """Multiply the constant of an initializer by a factor; nothing for None, an absent bias."""
    import onnx_ir

    if value is not None:
        values = value.const_value.numpy()
        value.const_value = onnx_ir.tensor(values * values.dtype.type(factor), name=value.name)
