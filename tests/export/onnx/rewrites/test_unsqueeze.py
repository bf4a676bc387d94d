"""Two insertions of axes in a row become one that computes the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_ir.passes.common import RemoveUnusedNodesPass

from attn_surgeon.export.onnx.rewrites.unsqueeze import merge_unsqueezes

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def model(inner: list[int], outer: list[int]) -> Any:
    nodes = [
        helper.make_node("Unsqueeze", ["x", "inner"], ["between"], name="first"),
        helper.make_node("Unsqueeze", ["between", "outer"], ["y"], name="second"),
    ]
    constants = [numpy_helper.from_array(np.array(axes), name) for name, axes in (("inner", inner), ("outer", outer))]
    ends = (
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    graph = helper.make_graph(nodes, "g", *ends, constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("inner", [[0], [1], [2], [0, 2], [0, 3], [-1], [-2, 0]])
@pytest.mark.parametrize("outer", [[0], [1], [3], [1, 3], [-1], [-3]])
def test_they_compute_the_same(inner: list[int], outer: list[int]) -> None:
    made = model(inner, outer)
    expected = onnx.reference.ReferenceEvaluator(made).run(None, {"x": X})[0]
    read = onnx_ir.from_proto(made)
    assert merge_unsqueezes(read) == 1
    RemoveUnusedNodesPass()(read)
    merged = onnx_ir.to_proto(read)
    assert [node.name for node in merged.graph.node] == ["second"]
    found = onnx.reference.ReferenceEvaluator(merged).run(None, {"x": X})[0]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def test_axes_from_the_end_of_an_unknown_shape_stay() -> None:
    made = model([2], [-1])
    made.graph.input[0].type.tensor_type.ClearField("shape")
    read = onnx_ir.from_proto(made)
    assert merge_unsqueezes(read) == 0
