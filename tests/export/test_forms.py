"""Grafts are exported in the operators that ONNX Runtime is fast at, where these compute the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnx.reference
import onnx_ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from attn_surgeon.export.forms import quicken

IN_GRAFT = "layer1.attn_surgeon.after_bn/node"
SHAPE = (2, 3, 4, 5)


def model(
    operator: str, shapes: list[list[Any]], axes: list[int] | None = None, name: str = IN_GRAFT, **more: Any
) -> Any:
    inputs = [helper.make_tensor_value_info(f"x{index}", TensorProto.FLOAT, each) for index, each in enumerate(shapes)]
    names = [value.name for value in inputs] + (["axes"] if axes else [])
    constants = [numpy_helper.from_array(np.array(axes), "axes")] if axes else []
    node = helper.make_node(operator, names, ["y"], name=name, **more)
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", inputs, [output], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def quickened(made: Any) -> tuple[Any, int]:
    read = onnx_ir.from_proto(made)
    changed = quicken(read)
    return onnx_ir.to_proto(read), changed


def outputs(made: Any, shapes: list[list[int]]) -> np.ndarray[Any, Any]:
    draws = np.random.default_rng(0)
    feeds = {f"x{index}": draws.normal(size=each).astype(np.float32) for index, each in enumerate(shapes)}
    given: np.ndarray[Any, Any] = onnx.reference.ReferenceEvaluator(made).run(None, feeds)[0]
    return given


def operators(made: Any) -> Counter[str]:
    return Counter(node.op_type for node in made.graph.node)


def test_an_outer_product_is_a_product_of_matrices_to_the_bit() -> None:
    shapes: list[list[Any]] = [[2, 3, 4, 1], [2, 3, 1, 5]]
    made = model("Mul", shapes)
    quick, changed = quickened(made)
    assert (changed, operators(quick)) == (1, Counter(MatMul=1))
    np.testing.assert_array_equal(outputs(quick, shapes), outputs(made, shapes))


@pytest.mark.parametrize("axis", [2, 3, -1, -2])
def test_a_mean_over_one_axis_is_a_pooling(axis: int) -> None:
    made = model("ReduceMean", [list(SHAPE)], [axis], keepdims=1)
    quick, changed = quickened(made)
    assert (changed, operators(quick)) == (1, Counter(AveragePool=1))
    np.testing.assert_allclose(outputs(quick, [list(SHAPE)]), outputs(made, [list(SHAPE)]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("operator", "shapes", "axes", "more"),
    [
        ("Mul", [[2, 3, 4, 5], [2, 3, 1, 5]], None, {}),
        ("Mul", [[2, 3, 4, 1], [2, 1, 1, 5]], None, {}),
        ("Mul", [[2, 3, 4, 1], [2, 3, 1, 1]], None, {}),
        ("Add", [[2, 3, 4, 1], [2, 3, 1, 5]], None, {}),
        ("ReduceMean", [[2, 3, 4, 5]], [2, 3], {"keepdims": 1}),
        ("ReduceMean", [[2, 3, 4, 5]], [1], {"keepdims": 1}),
        ("ReduceMean", [[2, 3, 4, 5]], [3], {"keepdims": 0}),
        ("ReduceMean", [[2, 3, "height", 5]], [2], {"keepdims": 1}),
        ("ReduceMean", [[2, 3, 4]], [2], {"keepdims": 1}),
        ("ReduceMax", [[2, 3, 4, 5]], [3], {"keepdims": 1}),
    ],
)
def test_all_else_stays(operator: str, shapes: list[list[Any]], axes: list[int] | None, more: dict[str, Any]) -> None:
    quick, changed = quickened(model(operator, shapes, axes, **more))
    assert (changed, operators(quick)) == (0, Counter([operator]))


def test_what_is_not_a_grafts_stays() -> None:
    quick, changed = quickened(model("Mul", [[2, 3, 4, 1], [2, 3, 1, 5]], name="layer1/node"))
    assert (changed, operators(quick)) == (0, Counter(Mul=1))
