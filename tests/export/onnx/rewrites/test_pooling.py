"""Reductions over a map become poolings where these compute the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from attn_surgeon.export.onnx.rewrites.pooling import pool_globally


def model(operator: str, axes: list[int], **attributes: int) -> Any:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x", "axes"], ["y"], **attributes)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3, 4, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.array(axes), "axes")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("operator", ["ReduceMean", "ReduceMax"])
@pytest.mark.parametrize("axes", [[2, 3], [-1, -2]])
def test_what_keeps_the_axes_is_pooled(operator: str, axes: list[int]) -> None:
    made, x = model(operator, axes, keepdims=1), np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    expected = onnx.reference.ReferenceEvaluator(made).run(None, {"x": x})[0]
    read = onnx_ir.from_proto(made)
    assert pool_globally(read) == 1
    made = onnx_ir.to_proto(read)
    assert made.graph.node[0].op_type == operator.replace("Reduce", "Global").replace("Mean", "Average") + "Pool"
    np.testing.assert_allclose(onnx.reference.ReferenceEvaluator(made).run(None, {"x": x})[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("operator", "axes", "keepdims"), [("ReduceMean", [2, 3], 0), ("ReduceMean", [1, 2], 1), ("ReduceSum", [2, 3], 1)]
)
def test_all_else_stays(operator: str, axes: list[int], keepdims: int) -> None:
    made = model(operator, axes, keepdims=keepdims)
    read = onnx_ir.from_proto(made)
    before = onnx_ir.to_proto(read).SerializeToString()
    assert pool_globally(read) == 0
    assert onnx_ir.to_proto(read).SerializeToString() == before
