"""Convert an ONNX file to bfloat16, which TensorRT supports but ONNX Runtime does not on a CPU.

The graph is that of the file in half precision with bfloat16 in place of float16. The weights are rounded from single
precision, because float16 has a smaller range than bfloat16.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from attn_surgeon.export.onnx.precisions.half import to_half


def to_bfloat16(source: Path, target: Path) -> None:
    """Write a model in bfloat16, with float inputs and outputs; raise ExportError as `to_half` does."""
    import onnx

    single: Any = onnx.load(str(source))
    with tempfile.TemporaryDirectory() as folder:
        half = Path(folder) / "half.onnx"
        to_half(source, half)
        model: Any = onnx.load(str(half))
    exact = {tensor.name: tensor for tensor in single.graph.initializer}
    _retype(model, onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16, exact)
    onnx.save(model, str(target))


def bfloat16_to_float(source: Path, target: Path) -> None:
    """Write a bfloat16 model in single precision with the rounded weights, which ONNX Runtime can run on a CPU.

    Activations are not rounded, unlike in bfloat16.
    """
    import onnx

    model: Any = onnx.load(str(source))
    _retype(model, onnx.TensorProto.BFLOAT16, onnx.TensorProto.FLOAT, {})
    onnx.save(model, str(target))


def _retype(model: Any, before: int, after: int, exact: Mapping[str, Any]) -> None:
    """Change the type of every tensor of type `before`; values are cast from the tensor in `exact`, if any."""
    for tensor in _tensors(model):
        if tensor.data_type == before:
            tensor.CopyFrom(_cast(exact.get(tensor.name, tensor), tensor.name, after))
    for value in (*model.graph.value_info, *model.graph.input, *model.graph.output):
        if value.type.tensor_type.elem_type == before:
            value.type.tensor_type.elem_type = after
    for node in model.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == before:
                attribute.i = after


def _tensors(model: Any) -> Iterator[Any]:
    yield from model.graph.initializer
    for node in model.graph.node:
        yield from (attribute.t for attribute in node.attribute if attribute.HasField("t"))


def _cast(tensor: Any, name: str, kind: int) -> Any:
    from onnx import helper, numpy_helper

    values = numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(kind))
    return numpy_helper.from_array(values, name)
