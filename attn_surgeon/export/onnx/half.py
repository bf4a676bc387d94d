"""An ONNX file in half precision, made from one in single precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attn_surgeon.errors import ExportError, first_line
from attn_surgeon.export.network import in_graft

# sums, powers and what is divided by them leave half precision's range, or lose its last digits
IN_SINGLE = (
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
    """Write a model in half precision; its inputs and outputs stay as they are.

    Poolings, norms and softmax stay in single precision. Raises ExportError where the model cannot be converted.
    """
    import onnx
    from onnxruntime.transformers import float16

    blocked = [*float16.DEFAULT_OP_BLOCK_LIST, *IN_SINGLE]
    model: Any = onnx.load(str(source))
    means = [node.name for node in model.graph.node if node.op_type == "AveragePool" and in_graft(node.name)]
    try:
        made = float16.convert_float_to_float16(model, keep_io_types=True, op_block_list=blocked, node_block_list=means)
    except Exception as error:
        raise ExportError(f"the model cannot be written in half precision: {first_line(error)}", "--fp16") from error
    _cast_once(made.graph)
    onnx.save(_in_order(made), str(target))


def _in_order(model: Any) -> Any:
    """Put the casts, which the converter writes behind all other nodes, before what they feed."""
    import onnx_ir

    read = onnx_ir.from_proto(model)
    read.graph.sort()
    return onnx_ir.to_proto(read)


def _cast_once(graph: Any) -> None:
    """Keep one of the casts of a tensor that the converter writes anew for each node that needs it."""
    first = {node.output[0]: node for node in reversed(graph.node) if node.op_type == "Cast"}
    kept = [node for node in graph.node if node.op_type != "Cast" or first[node.output[0]] is node]
    del graph.node[:]
    graph.node.extend(kept)
