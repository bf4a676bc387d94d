"""Convert a PyTorch module to an ONNX model with `torch.onnx.export`."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from attn_surgeon.errors import ExportError, option
from attn_surgeon.export.dynamic_axes import Axis, axis_index
from attn_surgeon.export.failures import export_failure
from attn_surgeon.export.module import INPUT, WRAPPED, ExportModule, InputOutputWrapper
from attn_surgeon.export.onnx.explicit_attention import explicit_attention
from attn_surgeon.export.onnx.simplify import simplify
from attn_surgeon.export.quiet import silenced

MIN_OPSET, MAX_OPSET = 18, 25
DEFAULT_OPSET = 20
_TORCHSCRIPT_OPSET = 20  # the last opset of the exporter by TorchScript
WITH_TORCHSCRIPT = (
    "written by torch.onnx's TorchScript exporter for one image at a time, because torch.export does not trace the"
    " selection of boxes; labels are the network's own: 0 is the background in torchvision's detectors"
)
_BFLOAT16_OPSET = 22  # the first opset in which convolutions support bfloat16


def default_opset(precisions: Sequence[str]) -> int:
    """Return the default opset for the precisions to write.

    >>> default_opset(["fp32"]), default_opset(["bf16"])
    (20, 22)
    """
    return _BFLOAT16_OPSET if "bf16" in precisions else DEFAULT_OPSET


def require_opset(opset: int, precisions: Sequence[str] = ()) -> None:
    """Raise ExportError where the exporter or ONNX Runtime does not support an opset, or it lacks a precision."""
    if not isinstance(opset, int) or not MIN_OPSET <= opset <= MAX_OPSET:
        what = f"opset {opset} is out of range"
        raise ExportError(what, option("opset"), f"supported: {MIN_OPSET} to {MAX_OPSET}")
    if "bf16" in precisions and opset < _BFLOAT16_OPSET:
        what = f"opset {opset} has no convolutions in bfloat16"
        raise ExportError(what, option("opset"), f"use {_BFLOAT16_OPSET} or later")


def convert_to_onnx(module: ExportModule, example: Tensor, axes: Sequence[Axis], opset: int = DEFAULT_OPSET) -> Any:
    """Return a module as a simplified `onnx_ir.Model` with named dynamic axes.

    Args:
        module: the module, in eval mode, on the CPU.
        example: the input to trace with.
        axes: the dynamic axes.
        opset: the ONNX operator set.

    Raises:
        ExportError: the exporter raises an error, or makes a dynamic axis constant.
    """
    dynamic = {axis_index(axis, pixels=module.preprocessing is not None): axis.name for axis in axes}
    if module.objects:
        return _convert_by_torchscript(module, example, axes, dynamic, opset)
    # Fused attention kernels return tensors with other strides than the formula that is exported.
    with silenced(), sdpa_kernel(SDPBackend.MATH), explicit_attention(), _without_checks_of_transformers():
        try:
            program: Any = torch.onnx.export(
                module.module,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT],
                output_names=list(module.outputs),
                dynamic_shapes=(dynamic,),
                verbose=False,
            )
        except Exception as error:  # of any kind, from the exporter or the network's code
            raise export_failure(error, axes) from error
        model = simplify(program.model)
    _rename(model, module)
    _require_dynamic(model, dynamic)
    return model


def _convert_by_torchscript(
    module: ExportModule, example: Tensor, axes: Sequence[Axis], dynamic: dict[int, str], opset: int
) -> Any:
    """Return a module that selects boxes as an `onnx_ir.Model`; `torch.export` does not trace the selection."""
    import onnx
    import onnx_ir

    if opset > _TORCHSCRIPT_OPSET:
        what = f"opset {opset} is out of range for a network that selects boxes"
        raise ExportError(what, option("opset"), f"supported: {MIN_OPSET} to {_TORCHSCRIPT_OPSET}")
    file: Any = io.BytesIO()
    with silenced():
        try:
            torch.onnx.export(
                module.module,
                (example,),
                file,
                dynamo=False,
                opset_version=opset,
                input_names=[INPUT],
                output_names=list(module.outputs),
                dynamic_axes={INPUT: dynamic, **{name: {0: "objects"} for name in module.outputs}},
            )
        except Exception as error:  # of any kind, from the exporter or the network's code
            raise export_failure(error, axes) from error
    model = simplify(onnx_ir.from_proto(onnx.load_from_string(file.getvalue())))
    for value in list(model.graph.initializers.values()):
        value.name = value.name.removeprefix(f"{WRAPPED}.")
    _require_dynamic(model, dynamic)
    return model


def _without_checks_of_transformers() -> AbstractContextManager[object]:
    """Return a context without transformers' checks of computed shapes, whose operator ONNX does not have."""
    return mock.patch.dict(os.environ, {"TRANSFORMERS_DISABLE_TORCH_CHECK": "1"})


def _rename(model: Any, module: ExportModule) -> None:
    """Name the input and the outputs, and give parameters their names in the network's state dict."""
    model.graph.inputs[0].name = INPUT
    for value, name in zip(model.graph.outputs, module.outputs, strict=True):
        value.name = name
    if isinstance(module.module, InputOutputWrapper):
        for value in list(model.graph.initializers.values()):
            value.name = value.name.removeprefix(f"{WRAPPED}.")


def _require_dynamic(model: Any, dynamic: dict[int, str]) -> None:
    shape = model.graph.inputs[0].shape
    for index, name in dynamic.items():
        if isinstance(shape[index], int):
            what = f"the exporter fixed the {name} at {shape[index]}"
            raise ExportError(what, option("dynamic"), "leave this axis out")
