"""Convert an ONNX file to half precision (float16) with ONNX Runtime's converter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attn_surgeon.errors import ExportError, first_line
from attn_surgeon.export.module import in_graft
from attn_surgeon.export.onnx.session import conflict

# Operators whose sums, powers or divisors overflow in half precision, or lose too many digits.
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
    """Write a model in half precision, with float inputs and outputs; raise ExportError where that fails.

    Poolings, norms and softmax stay in single precision.
    """
    import onnx

    model: Any = onnx.load(str(source))
    poolings = [node.name for node in model.graph.node if node.op_type == "AveragePool" and in_graft(node.name)]
    try:
        from onnxruntime.transformers import float16

        blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *KEPT_IN_SINGLE]
        half = float16.convert_float_to_float16(
            model, keep_io_types=True, op_block_list=blocked, node_block_list=poolings
        )
    except Exception as error:
        what = f"the model cannot be written in half precision: {first_line(error)}"
        raise ExportError(what, "", conflict()) from error
    _remove_duplicate_casts(half.graph)
    onnx.save(_sorted(half), str(target))


def _sorted(model: Any) -> Any:
    """Return the model in topological order: the converter appends casts after the nodes that need them."""
    import onnx_ir

    ir_model = onnx_ir.from_proto(model)
    ir_model.graph.sort()
    return onnx_ir.to_proto(ir_model)


def _remove_duplicate_casts(graph: Any) -> None:
    """Remove all but one of the equal casts, since the converter writes one for each node that takes a tensor."""
    first = {node.output[0]: node for node in reversed(graph.node) if node.op_type == "Cast"}
    kept = [node for node in graph.node if node.op_type != "Cast" or first[node.output[0]] is node]
    del graph.node[:]
    graph.node.extend(kept)
