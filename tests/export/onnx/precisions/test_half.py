"""Files in half precision: what is read in single precision twice is cast once, and what they compute."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from attn_surgeon.export.onnx.precisions.half import to_half
from attn_surgeon.export.onnx.session import open_session

SHAPE = (2, 3, 4, 5)


def test_means_over_two_axes_of_one_map_are_taken_in_single_precision(tmp_path: Path) -> None:
    over = [4, 1]
    nodes = [
        helper.make_node("Relu", ["x"], ["relu"], name="relu"),
        helper.make_node("AveragePool", ["relu"], ["rows"], "attn_surgeon.g/rows", kernel_shape=over, strides=over),
        helper.make_node("AveragePool", ["relu"], ["same"], "attn_surgeon.g/same", kernel_shape=[1, 1]),
        helper.make_node("AveragePool", ["relu"], ["own"], "pool", kernel_shape=[1, 1]),
        helper.make_node("Mul", ["rows", "same"], ["gated"], "gated"),
        helper.make_node("Add", ["gated", "own"], ["y"], "y"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:])
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(made, tmp_path / "single.onnx")
    to_half(tmp_path / "single.onnx", tmp_path / "half.onnx")
    onnx.checker.check_model(onnx.load(tmp_path / "half.onnx"))
    casts = Counter(node.input[0] for node in onnx.load(tmp_path / "half.onnx").graph.node if node.op_type == "Cast")
    assert casts["relu"] == 1
    assert casts.keys() >= {"rows_cast_to_fp16", "same_cast_to_fp16"}
    assert "own_cast_to_fp16" not in casts
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    with open_session(tmp_path / "half.onnx") as session:
        (found,) = session.run({"x": x})
    kept = np.maximum(x, 0)
    np.testing.assert_allclose(found, kept.mean(2, keepdims=True) * kept + kept, atol=2e-3)
