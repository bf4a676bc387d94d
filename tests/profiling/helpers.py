"""ONNX files written by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def scaling(
    path: Path, shape: Sequence[int | str], kind: int = TensorProto.FLOAT, story: Mapping[str, str] | None = None
) -> str:
    """Write a file that multiplies its input by 1 × 1 × 5 numbers and reshapes it to a row."""
    held = [
        numpy_helper.from_array(np.ones((1, 1, 5), np.float32), "scale"),
        numpy_helper.from_array(np.array([-1], np.int64), "row"),
    ]
    nodes = [
        helper.make_node("Cast", ["x"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["real", "scale"], ["scaled"]),
        helper.make_node("Reshape", ["scaled", "row"], ["y"]),
    ]
    ends = (
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None])],
    )
    graph = helper.make_graph(nodes, "scaling", *ends, held)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, dict(story or {}))
    onnx.save(model, path)
    return str(path)
