"""An ONNX file in half precision, made from one in single precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attn_surgeon.errors import ExportError, first_line
from attn_surgeon.export.module import in_graft
from attn_surgeon.export.onnx.session import conflict

# sums, powers and divisors leave half precision's range, or lose its last digits
KEPT_IN_SINGLE = (
    "Exp",
    "GlobalAveragePool",
    "InstanceNormalization",
    "GroupNormalization",
    "LayerNormalization",
    "Log",
    "Pow",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceSum",
    "Softmax",
    "Sqrt",
)


def to_half(source: Path, target: Path) -> None:
    """Write a model in half precision; its inputs and outputs keep their types.

    Poolings, norms and softmax stay in single precision. Raises ExportError where the model cannot be converted.
    """
    import onnx

    model: Any = onnx.load(str(source))
    means = [node.name for node in model.graph.node if node.op_type == "AveragePool" and in_graft(node.name)]
    try:
        from onnxruntime.transformers import float16

        blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *KEPT_IN_SINGLE]
        made = float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked, node_block_list=means)
    except Exception as error:
        what = f"the model cannot be written in half precision: {first_line(error)}"
        raise ExportError(what, "", conflict()) from error
    _cast_once(made.graph)
    onnx.save(_sorted(made), str(target))


def _sorted(model: Any) -> Any:
    """Return the model with its casts, which the converter appends, before the nodes that need them."""
    import onnx_ir

    read = onnx_ir.from_proto(model)
    read.graph.sort()
    return onnx_ir.to_proto(read)


def _cast_once(graph: Any) -> None:
    """Remove all but one of the equal casts that the converter writes for each node that needs a tensor."""
    first = {node.output[0]: node for node in reversed(graph.node) if node.op_type == "Cast"}
    kept = [node for node in graph.node if node.op_type != "Cast" or first[node.output[0]] is node]
    del graph.node[:]
    graph.node.extend(kept)
