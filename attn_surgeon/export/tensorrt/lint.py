"""Check the nodes of an ONNX file against the operator table of TensorRT's parser, which is in operators.json."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).with_name("operators.json")
_TYPES = {
    1: "FP32", 2: "UINT8", 3: "INT8", 6: "INT32", 7: "INT64", 9: "BOOL", 10: "FP16", 11: "FP64", 16: "BF16",
    17: "FP8", 21: "UINT4", 22: "INT4", 23: "FP4",
}  # fmt: skip


@dataclass(frozen=True)
class LintFinding:
    """A node that the parser does not support; `what` is the reason."""

    node: str
    operator: str
    what: str


@cache
def operator_table() -> dict[str, Any]:
    """Return the operator table: its TensorRT version, opsets, and the types that each operator supports."""
    table: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table


def lint(path: Path) -> list[LintFinding]:
    """Return the nodes that the parser does not support according to the operator table."""
    import onnx

    model: Any = onnx.shape_inference.infer_shapes(onnx.load(str(path)))
    findings = list(_opset(model))
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    types = _element_types(model)
    for node in model.graph.node:
        findings += [LintFinding(node.name, node.op_type, what) for what in _faults(node, types, constants)]
    return findings


def _opset(model: Any) -> Iterator[LintFinding]:
    low, high = operator_table()["opsets"]
    for used in model.opset_import:
        if used.domain in ("", "ai.onnx") and not low <= used.version <= high:
            yield LintFinding("", "", f"opset {used.version} is out of range: {low} to {high}")


def _element_types(model: Any) -> dict[str, str]:
    """Return the element types of tensors by name, where they are known."""
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    types = {value.name: value.type.tensor_type.elem_type for value in values}
    types |= {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return {name: _TYPES.get(number, f"type {number}") for name, number in types.items() if number}


def _faults(node: Any, types: Mapping[str, str], constants: Mapping[str, Any]) -> Iterator[str]:
    table, operator = operator_table(), node.op_type
    if node.domain not in ("", "ai.onnx") or operator not in table["operators"]:
        yield "the parser does not have this operator"
        return
    element_type = types.get(node.input[0], "") if node.input else ""
    if element_type and element_type not in table["operators"][operator]:
        yield f"it takes {', '.join(table['operators'][operator])}, not {element_type}"
    for index in table["constant_inputs"].get(operator, ()):
        if len(node.input) > index and node.input[index] and node.input[index] not in constants:
            yield f"its input {index} must be a constant"
    if operator in table["single_output"] and any(node.output[1:]):
        yield "only its first output is supported"
    if operator in table["zero_points"] and not _has_zero_point_0(node, constants):
        yield "its zero point must be zero"


def _has_zero_point_0(node: Any, constants: Mapping[str, Any]) -> bool:
    from onnx import numpy_helper

    if len(node.input) < 3 or not node.input[2]:
        return True
    zero_point = constants.get(node.input[2])
    return zero_point is not None and not numpy_helper.to_array(zero_point).any()
