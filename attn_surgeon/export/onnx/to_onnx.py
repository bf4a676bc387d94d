"""From a PyTorch module to a lean ONNX model that says nothing of the machine it was made on."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from attn_surgeon.errors import ExportError
from attn_surgeon.export.axes import Axis
from attn_surgeon.export.network import INNER, INPUT, Network
from attn_surgeon.export.onnx.attention import attention_of_four_axes
from attn_surgeon.export.onnx.factors import move_factors
from attn_surgeon.export.onnx.forms import quicken
from attn_surgeon.export.quiet import quiet

OPSETS = (18, 25)
DEFAULT_OPSET = 20
_OF_BFLOAT = 22
_LONGEST = 200  # characters of what an exporter said
SLIM_LIMIT = 1_900_000_000  # protobuf holds two gigabytes, and slimming makes copies
_PLACES = {"batch": (0, 0), "height": (2, 1), "width": (3, 2)}


def opset_for(precisions: Sequence[str]) -> int:
    """Give the operator set to write where none is asked for."""
    return _OF_BFLOAT if "bf16" in precisions else DEFAULT_OPSET


def require_opset(opset: int, precisions: Sequence[str] = ()) -> None:
    """Refuse an operator set that the exporter does not write, ONNX Runtime does not read, or a precision is not in."""
    if not isinstance(opset, int) or not OPSETS[0] <= opset <= OPSETS[1]:
        what = f"opset {opset} is out of range"
        raise ExportError(what, "--opset", f"supported are {OPSETS[0]} to {OPSETS[1]}")
    if "bf16" in precisions and opset < _OF_BFLOAT:
        what = f"opset {opset} has no convolutions in bfloat16"
        raise ExportError(what, "--opset", f"take one from {_OF_BFLOAT} on")


def to_onnx(network: Network, example: Tensor, axes: Sequence[Axis], opset: int) -> Any:
    """Export a module as an `onnx_ir.Model` whose open axes have names.

    Raises ExportError where the exporter cannot, or where it fixed an axis that was to stay open.
    """
    places = {place_of(axis, network): axis.name for axis in axes}
    # fused kernels lay out what they give otherwise than the formula that is written in their place
    with quiet(), sdpa_kernel(SDPBackend.MATH), attention_of_four_axes():
        try:
            program: Any = torch.onnx.export(
                network.module,
                (example,),
                dynamo=True,
                opset_version=opset,
                input_names=[INPUT],
                output_names=list(network.outputs),
                dynamic_shapes=(places,),
                verbose=False,
            )
        except Exception as error:  # the exporter's own kinds, and whatever the network's code raises
            raise refusal(error, axes) from error
        model = lean(program.model)
    _name_ends(model, network)
    _require_open(model, places)
    return model


def place_of(axis: Axis, network: Network) -> int:
    """Say which axis of a network's input this is: images are (N, C, H, W), pixels (N, H, W, C)."""
    return _PLACES[axis.name][network.preprocessing is not None]


def reason(error: BaseException) -> str:
    """Find the line that tells most in what an exporter raised."""
    while error.__cause__ is not None:
        error = error.__cause__
    lines = [line.strip(" -") for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    line = lines[1] if len(lines) > 1 and lines[0].endswith(":") else lines[0]
    return line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"


def refusal(error: BaseException, axes: Sequence[Axis]) -> ExportError:
    """Make the error for a network that an exporter cannot take: why, and what to try."""
    why, hint = reason(error), _way_on(axes)
    if "data-dependent" in why:
        why = "what it does next depends on the values that it computed, as where a detector selects boxes"
        hint = "export the part before that, as a network of its own"
    return ExportError(f"the network cannot be exported: {why}", "", hint)


def _way_on(axes: Sequence[Axis]) -> str:
    """Tell what to try where the exporter cannot leave these axes open."""
    names = [axis.name for axis in axes]
    return f"see whether it goes with the {' and '.join(names)} fixed" if names else "ATTN_SURGEON_DEBUG=1 shows where"


def lean(model: Any) -> Any:
    """Take out what is computed twice or never, and every note on where the code lies."""
    import onnx_ir
    from onnx_ir.passes import common

    for node in model.graph:
        node.name = _place(node) or node.name
    common.NameFixPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    if size < SLIM_LIMIT:
        model = onnx_ir.from_proto(_slimmed(onnx_ir.to_proto(model)))
    common.NameFixPass()(model)
    move_factors(model)
    quicken(model)
    common.RemoveUnusedNodesPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    return model


def _place(node: Any) -> str:
    """Name a node by its module and itself: layer1.0.conv1/conv2d."""
    scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
    return "/".join(scope for scope in scopes[-2:] if not scope.startswith("_empty")).strip("/")


def _slimmed(model: Any) -> Any:
    import copy

    import onnxslim

    try:
        return onnxslim.slim(copy.deepcopy(model))
    except Exception:  # it only makes graphs smaller; one that it cannot read goes as it is
        return model


def _name_ends(model: Any, network: Network) -> None:
    """Give inputs, outputs and parameters the names that were asked for."""
    model.graph.inputs[0].name = INPUT
    for value, name in zip(model.graph.outputs, network.outputs, strict=True):
        value.name = name
    for value in list(model.graph.initializers.values()):
        if value.name.startswith(f"{INNER}.") and network.module.__class__.__name__ == "Shipped":
            value.name = value.name.removeprefix(f"{INNER}.")


def _require_open(model: Any, places: dict[int, str]) -> None:
    shape = model.graph.inputs[0].shape
    for place, name in places.items():
        if isinstance(shape[place], int):
            what = f"the exporter fixed the {name} at {shape[place]}"
            raise ExportError(what, "--dynamic", "leave the axis out")
