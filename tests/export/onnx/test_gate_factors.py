"""The factor of a gate goes into the convolution before it where that changes no value, and nowhere else."""

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

from attn_surgeon.export.onnx.gate_factors import move_factors

GRAFT = "layer1.attn_surgeon.after_bn/"
# a convolution, a gate of what it makes, the gate's factor, and the product
SE = [
    ("Conv", ["images", "w", "b"], "x"),
    ("ReduceMean", ["x", "map"], "mean"),
    ("Conv", ["mean", "v", "c"], "z"),
    ("Sigmoid", ["z"], "gate"),
    ("Mul", ["gate", "two"], "doubled"),
    ("Mul", ["x", "doubled"], "y"),
]
# the same, then a gate of positions by their mean and maximum over channels
CBAM = [
    *SE[:-1],
    ("Mul", ["x", "doubled"], "gated"),
    ("ReduceMax", ["gated", "channels"], "most"),
    ("ReduceMean", ["gated", "channels"], "middle"),
    ("Concat", ["most", "middle"], "both"),
    ("Conv", ["both", "u"], "s"),
    ("Sigmoid", ["s"], "where"),
    ("Mul", ["two", "where"], "twice"),
    ("Mul", ["gated", "twice"], "y"),
]
# two gates that meet before the features do
OUTER = [
    SE[0],
    ("ReduceMean", ["x", "rows"], "row"),
    ("ReduceMean", ["x", "columns"], "column"),
    ("Conv", ["row", "v", "c"], "p"),
    ("Conv", ["column", "v", "c"], "q"),
    ("Mul", ["p", "two"], "p2"),
    ("Mul", ["q", "two"], "q2"),
    ("MatMul", ["q2", "p2"], "gate"),
    ("Mul", ["gate", "x"], "y"),
]
AXES = {"map": [2, 3], "channels": [1], "rows": [2], "columns": [3]}
WEIGHTS = {"w": (4, 3, 1, 1), "b": (4,), "v": (4, 4, 1, 1), "c": (4,), "u": (1, 2, 1, 1)}


def model(nodes: list[tuple[str, list[str], str]], outputs: tuple[str, ...] = ("y",), factor: float = 2.0) -> Any:
    draws = np.random.default_rng(0)
    constants = {name: np.array(axes) for name, axes in AXES.items()}
    constants |= {name: draws.normal(size=shape).astype(np.float32) for name, shape in WEIGHTS.items()}
    constants["two"] = np.array(factor, np.float32)
    used = {name for _, names, _ in nodes for name in names}
    made = [
        helper.make_node(kind, names, [out], name=out if out == "x" else f"{GRAFT}{out}", **_attributes(kind))
        for kind, names, out in nodes
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    images = [helper.make_tensor_value_info("images", TensorProto.FLOAT, (2, 3, 5, 5))]
    kept = [numpy_helper.from_array(value, name) for name, value in constants.items() if name in used]
    graph = helper.make_graph(made, "g", images, ends, kept)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


def _attributes(kind: str) -> dict[str, int]:
    return {"axis": 1} if kind == "Concat" else {"keepdims": 1} if kind.startswith("Reduce") else {}


def moved(made: Any) -> tuple[Any, int]:
    read = onnx_ir.from_proto(made)
    count = move_factors(read)
    RemoveUnusedNodesPass()(read)
    return onnx_ir.to_proto(read), count


def outputs(made: Any) -> list[Any]:
    images = np.random.default_rng(1).normal(size=(2, 3, 5, 5)).astype(np.float32)
    return list(onnx.reference.ReferenceEvaluator(made).run(None, {"images": images}))


def without(nodes: list[tuple[str, list[str], str]], name: str, other: str) -> list[tuple[str, list[str], str]]:
    """Put another tensor in the place of one, wherever nodes take it."""
    return [(kind, [other if each == name else each for each in names], out) for kind, names, out in nodes]


@pytest.mark.parametrize(("nodes", "factors"), [(SE, 1), (CBAM, 2), (OUTER, 2)])
def test_no_value_changes_and_no_factor_is_left(nodes: Any, factors: int) -> None:
    made = model(nodes)
    lean, count = moved(made)
    assert count == factors
    assert Counter(each.op_type for each in made.graph.node) - Counter(each.op_type for each in lean.graph.node) == (
        Counter(Mul=factors)
    )
    assert "two" not in {name for node in lean.graph.node for name in node.input}
    for given, expected in zip(outputs(lean), outputs(made), strict=True):
        np.testing.assert_array_equal(given, expected)


KEPT = {
    "a factor that rounds": (SE, ("y",), 3.0),
    "a factor that half precision cannot take back": (SE, ("y",), 2.0**-14),
    "features that leave the network": (SE, ("y", "x"), 2.0),
    "features that no convolution makes": ([SE[0], ("Relu", ["x"], "r"), *without(SE[1:], "x", "r")], ("y",), 2.0),
    "features that something else takes too": ([*SE, ("Sigmoid", ["x"], "seen")], ("y", "seen"), 2.0),
    "a mean that leaves the network": (SE, ("y", "mean"), 2.0),
    "a gate that leaves the network": (SE, ("y", "doubled"), 2.0),
    "weights that something else has too": ([*SE, ("Conv", ["images", "w", "b"], "again")], ("y", "again"), 2.0),
    "inner weights that something else has too": (
        [*SE, ("Relu", ["y"], "after"), ("Conv", ["after", "v", "c"], "again")],
        ("again",),
        2.0,
    ),
    "a whole of which only a part is larger": (
        [*SE[:2], ("Concat", ["mean", "b4"], "z0"), ("Conv", ["z0", "v8"], "z"), *SE[3:]],
        ("y",),
        2.0,
    ),
    "features times their own means": (
        [SE[0], SE[1], ("Mul", ["mean", "two"], "twice"), ("Mul", ["x", "twice"], "y")],
        ("y",),
        2.0,
    ),
    "features times themselves": ([SE[0], ("Mul", ["x", "two"], "twice"), ("Mul", ["x", "twice"], "y")], ("y",), 2.0),
    "a gate of features times themselves": ([*SE[:1], ("Mul", ["x", "x"], "mean"), *SE[2:]], ("y",), 2.0),
}


@pytest.mark.parametrize("case", KEPT)
def test_a_factor_that_cannot_go_stays(case: str) -> None:
    nodes, ends, factor = KEPT[case]
    made = model(nodes, ends, factor)
    for name, shape in {"b4": (2, 4, 1, 1), "v8": (4, 8, 1, 1)}.items():
        made.graph.initializer.append(numpy_helper.from_array(np.ones(shape, np.float32), name))
    lean, count = moved(made)
    assert count == 0
    for given, expected in zip(outputs(lean), outputs(made), strict=True):
        np.testing.assert_array_equal(given, expected)
