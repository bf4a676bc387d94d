"""Files in bfloat16: weights keep single precision's range, and what is cast is cast to that type."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from attn_surgeon.export.onnx.precisions.bfloat16 import bfloat16_to_float, to_bfloat16
from attn_surgeon.export.onnx.session import open_session

SHAPE = (2, 3)
FACTORS = np.array([1e-20, 3e30, 1.0 + 2**-8 + 2**-10], np.float32)  # the first two are zero and too large in fp16


def test_weights_are_rounded_once_and_in_single_precisions_range(tmp_path: Path) -> None:
    nodes = [helper.make_node("Mul", ["x", "w"], ["scaled"], "m"), helper.make_node("Softmax", ["scaled"], ["y"], "s")]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(FACTORS, "w")])
    single, brain, wide = (tmp_path / f"{name}.onnx" for name in ("single", "brain", "wide"))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), single)
    to_bfloat16(single, brain)
    made = onnx.load(brain)
    onnx.checker.check_model(made)
    rounded = np.array([1e-20, 3e30, 1.0 + 2**-7], FACTORS.dtype)
    (factors,) = made.graph.initializer
    assert factors.data_type == TensorProto.BFLOAT16
    np.testing.assert_allclose(numpy_helper.to_array(factors).astype(np.float32), rounded, rtol=2**-8)
    assert numpy_helper.to_array(factors).astype(np.float32)[2] == rounded[2]
    kinds = [node.attribute[0].i for node in made.graph.node if node.op_type == "Cast"]
    assert sorted(kinds) == [TensorProto.FLOAT, TensorProto.FLOAT, TensorProto.BFLOAT16, TensorProto.BFLOAT16]
    bfloat16_to_float(brain, wide)
    x = np.array([[0, 0, 1], [0, 1e-30, 2]], np.float32)
    with open_session(wide) as session:
        (found,) = session.run({"x": x})
    scaled = x * numpy_helper.to_array(onnx.load(wide).graph.initializer[0])
    shares = np.exp(scaled - scaled.max(1, keepdims=True))
    np.testing.assert_allclose(found, shares / shares.sum(1, keepdims=True), rtol=1e-5)
