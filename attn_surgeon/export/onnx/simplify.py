"""Simplify an exported ONNX model: remove duplicate nodes, unused nodes and metadata, and rewrite grafts' operators."""

from __future__ import annotations

import ast
from typing import Any

from attn_surgeon.export.onnx.gate_factors import move_factors
from attn_surgeon.export.onnx.rewrites.fuse import fuse_for_runtime
from attn_surgeon.export.onnx.rewrites.layout import merge_layouts
from attn_surgeon.export.onnx.rewrites.neutral import remove_neutral
from attn_surgeon.export.onnx.rewrites.unsqueeze import merge_unsqueezes


def simplify(model: Any) -> Any:
    """Simplify an `onnx_ir.Model` in place and return it; the result contains no paths of source files."""
    from onnx_ir.passes import common

    for node in model.graph:
        node.name = _scoped_name(node) or node.name
    common.NameFixPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    merge_unsqueezes(model)
    remove_neutral(model)
    merge_layouts(model)
    common.RemoveUnusedNodesPass()(model)
    move_factors(model)
    fuse_for_runtime(model)
    common.RemoveUnusedNodesPass()(model)
    common.NameFixPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    _clear_metadata_of_values(model)
    return model


def _clear_metadata_of_values(model: Any) -> None:
    """Remove the metadata of inputs, weights and activations, which ClearMetadataAndDocStringPass does not."""
    graph = model.graph
    outputs = (value for node in graph for value in node.outputs)
    for value in (*graph.inputs, *graph.initializers.values(), *outputs):
        value.metadata_props.clear()


def _scoped_name(node: Any) -> str:
    """Return a name for a node from its module and operator, such as `layer1.0.conv1/conv2d`."""
    scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
    return "/".join(scope for scope in scopes[-2:] if not scope.startswith("_empty")).strip("/")
