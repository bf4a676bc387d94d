"""ONNX files against the parser's operator table."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from attn_surgeon.errors import ExportError
from attn_surgeon.export.tensorrt.lint import LintFinding, lint, operator_table
from attn_surgeon.export.tensorrt.shapes import Shapes, read_shapes

FLOAT = TensorProto.FLOAT


def linted(tmp_path: Path, *nodes: Any, kind: int = FLOAT, opset: int = 20, **constants: Any) -> list[LintFinding]:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, [2, 3, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UNDEFINED, None)],
        [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
    )
    onnx.save(model, tmp_path / "x.onnx")
    return lint(tmp_path / "x.onnx")


def node(operator: str, *inputs: str, outputs: tuple[str, ...] = ("y",), **attributes: Any) -> Any:
    return helper.make_node(operator, inputs or ("x",), outputs, name=f"a/{operator}", **attributes)


def test_no_findings_for_operators_that_the_parser_supports(tmp_path: Path) -> None:
    assert linted(tmp_path, node("Relu")) == []
    assert linted(tmp_path, node("ReduceMean", "x", "axes"), axes=np.array([2, 3])) == []


@pytest.mark.parametrize(
    ("made", "options", "what"),
    [
        (node("NoSuch"), {}, "does not have this operator"),
        (node("Unique"), {}, "does not have this operator"),
        (node("Relu", domain="com.microsoft"), {}, "does not have this operator"),
        (node("Sigmoid"), {"kind": TensorProto.DOUBLE}, "it takes FP32, FP16, BF16, not FP64"),
        (node("ReduceMean", "x", "where"), {}, "its input 1 must be a constant"),
        (node("MaxPool", outputs=("y", "indices"), kernel_shape=[2, 2]), {}, "only its first output"),
        (
            node("QuantizeLinear", "x", "scale", "zero"),
            {"scale": np.float32(0.1), "zero": np.int8(3)},
            "its zero point must be zero",
        ),
    ],
)
def test_what_it_does_not_take_is_found(tmp_path: Path, made: Any, options: Any, what: str) -> None:
    (found,) = linted(tmp_path, made, **options)
    assert (found.node, found.operator) == (made.name, made.op_type)
    assert what in found.what


def test_an_opset_out_of_range_is_found(tmp_path: Path) -> None:
    assert operator_table()["opsets"] == [9, 24]
    assert [found.what for found in linted(tmp_path, node("Relu"), opset=25)] == ["opset 25 is out of range: 9 to 24"]


def test_shapes_are_read() -> None:
    shapes = read_shapes("1x3x64x64,8x3x64x64,32x3x64x96", 3)
    assert shapes == Shapes((1, 3, 64, 64), (8, 3, 64, 64), (32, 3, 64, 96))
    assert [(axis.name, axis.low, axis.high) for axis in shapes.axes] == [("batch", 1, 32), ("width", 64, 96)]
    assert read_shapes("2x1x8x8", 1).axes == ()


@pytest.mark.parametrize(
    ("text", "what"),
    {
        "1x3x8": "invalid shape", "1x3x8x8,2x3x8x8": "expected 1 or 3 shapes, got 2", "1x1x8x8": "images of 3 channels",
        "2x3x8x8,1x3x8x8,4x3x8x8": "not in ascending order", "": "invalid shape",
    }.items(),
)  # fmt: skip
def test_an_invalid_shape_is_reported(text: str, what: str) -> None:
    with pytest.raises(ExportError, match=what):
        read_shapes(text, 3)
