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
from onnx_ir.passes.common import RemoveUnusedNodesPass

from attn_surgeon.export.onnx.rewrites.fuse import fuse_for_runtime

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
    changed = fuse_for_runtime(read)
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


@pytest.mark.parametrize("shape", [list(SHAPE), [2, 3, "height", "width"]])
def test_a_mean_over_a_map_is_a_pooling(shape: list[Any]) -> None:
    made = model("ReduceMean", [shape], [-1, 2], keepdims=1)
    quick, changed = quickened(made)
    assert (changed, operators(quick)) == (1, Counter(GlobalAveragePool=1))
    np.testing.assert_allclose(outputs(quick, [list(SHAPE)]), outputs(made, [list(SHAPE)]), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("axes", [[2, 3], [2]])
def test_means_in_double_precision_stay_what_the_runtime_has(axes: list[int]) -> None:
    made = model("ReduceMean", [list(SHAPE)], axes, keepdims=1)
    made.graph.input[0].type.tensor_type.elem_type = TensorProto.DOUBLE
    assert quickened(made)[1] == 0


@pytest.mark.parametrize("operator", ["ReduceMax", "ReduceMean"])
@pytest.mark.parametrize("batch", [2, "batch"])
def test_channels_are_reduced_in_halves(operator: str, batch: Any) -> None:
    made = model(operator, [[batch, 6, 4, 5]], [1], keepdims=1)
    quick, changed = quickened(made)
    assert (changed, operators(quick)) == (1, Counter({operator: 2, "Reshape": 1}))
    for count in (2, 1) if batch == "batch" else (2,):
        given, expected = outputs(quick, [[count, 6, 4, 5]]), outputs(made, [[count, 6, 4, 5]])
        np.testing.assert_allclose(given, expected, rtol=1e-5, atol=1e-7)


def test_a_maximum_and_a_mean_share_their_halves() -> None:
    made = model("ReduceMax", [[2, 6, 4, 5]], [1], keepdims=1)
    made.graph.node.append(helper.make_node("ReduceMean", ["x0", "axes"], ["z"], name=f"{IN_GRAFT}_2"))
    made.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, None))
    quick, changed = quickened(made)
    assert (changed, operators(quick)) == (2, Counter(ReduceMax=2, ReduceMean=2, Reshape=1))
    features = np.random.default_rng(0).normal(size=(2, 6, 4, 5)).astype(np.float32)
    most, mean = onnx.reference.ReferenceEvaluator(quick).run(None, {"x0": features})
    np.testing.assert_array_equal(most, features.max(1, keepdims=True))
    np.testing.assert_allclose(mean, features.mean(1, keepdims=True), rtol=1e-5, atol=1e-7)


def of_two_products(operator: str = "Gemm", other: str = "w", **more: Any) -> Any:
    """Add up products of the means and the maxima of a map with weights."""
    draws = np.random.default_rng(0)
    side = (1, 1) if operator == "Conv" else ()
    constants = {"axes": np.array([2, 3])}
    constants |= {name: draws.normal(size=(3, 3, *side)).astype(np.float32) for name in ("w", "v")}
    constants["b"] = draws.normal(size=3).astype(np.float32)
    biases = ["b"] if operator != "MatMul" else []
    pooled = {"keepdims": int(operator == "Conv")}
    attributes = {"transB": 1} if operator == "Gemm" else {}
    nodes = [
        helper.make_node("ReduceSum", ["x0", "axes"], ["sums"], **pooled),
        helper.make_node("ReduceMin", ["x0", "axes"], ["least"], **pooled),
        helper.make_node(operator, ["sums", "w", *biases], ["p"], **attributes),
        helper.make_node(operator, ["least", other, *biases], ["q"], **attributes | more),
        helper.make_node("Add", ["p", "q"], ["y"]),
    ]
    for place, node in enumerate(nodes):
        node.name = f"{IN_GRAFT}_{place}"
    kind, flat = TensorProto.FLOAT, [2, 3, *side]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x0", kind, SHAPE)],
        [helper.make_tensor_value_info("y", kind, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
        value_info=[helper.make_tensor_value_info(name, kind, flat) for name in ("sums", "least", "p", "q")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize("operator", ["Gemm", "Conv", "MatMul"])
def test_two_products_with_the_same_weights_are_one_of_the_sum(operator: str) -> None:
    made = of_two_products(operator)
    quick, changed = quickened(made)
    assert changed == 1
    lean = onnx_ir.from_proto(quick)
    RemoveUnusedNodesPass()(lean)
    assert operators(onnx_ir.to_proto(lean)) == Counter({"ReduceSum": 1, "ReduceMin": 1, "Add": 1, operator: 1})
    np.testing.assert_allclose(outputs(quick, [list(SHAPE)]), outputs(made, [list(SHAPE)]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("more", [{"other": "v"}, {"alpha": 2.0}])
def test_two_products_of_other_things_stay_two(more: dict[str, Any]) -> None:
    assert quickened(of_two_products(**more))[1] == 0


@pytest.mark.parametrize("name", ["p", "q"])
def test_two_products_of_which_one_is_used_elsewhere_stay_two(name: str) -> None:
    made = of_two_products()
    made.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    assert quickened(made)[1] == 0


def test_what_was_transposed_is_not_split() -> None:
    made = model("ReduceMax", [[2, 6, 4, 5]], [1], keepdims=1)
    made.graph.node.insert(0, helper.make_node("Transpose", ["x0"], ["t"], name=f"{IN_GRAFT}_0", perm=[0, 2, 1, 3]))
    made.graph.node[1].input[0] = "t"
    made.graph.value_info.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, [2, 4, 6, 5]))
    assert quickened(made)[1] == 0


@pytest.mark.parametrize(
    ("operator", "shapes", "axes", "more"),
    [
        ("Mul", [[2, 3, 4, 5], [2, 3, 1, 5]], None, {}),
        ("Mul", [[2, 3, 4, 1], [2, 1, 1, 5]], None, {}),
        ("Mul", [[2, 3, 4, 1], [2, 3, 1, 1]], None, {}),
        ("Add", [[2, 3, 4, 1], [2, 3, 1, 5]], None, {}),
        ("ReduceMean", [[2, 3, 4, 5]], [2, 3], {"keepdims": 0}),
        ("ReduceMean", [[2, 3, 4, 5]], [1], {"keepdims": 1}),
        ("ReduceMean", [[2, 6, 4, 5]], [1], {"keepdims": 0}),
        ("ReduceMean", [[2, 6, 1, 1]], [1], {"keepdims": 1}),
        ("ReduceMax", [[2, 2, 4, 5]], [1], {"keepdims": 1}),
        ("ReduceMax", [[2, 6, "height", 5]], [1], {"keepdims": 1}),
        ("ReduceMax", [[2, "channels", 4, 5]], [1], {"keepdims": 1}),
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
