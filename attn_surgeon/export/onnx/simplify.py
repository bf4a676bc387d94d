"""Simplify an exported ONNX model: duplicate and unused nodes, metadata, and the grafts' operators."""

from __future__ import annotations

import ast
from typing import Any

from attn_surgeon.export.onnx.factors import move_factors
from attn_surgeon.export.onnx.rewrites.fuse import fuse_for_runtime
from attn_surgeon.export.onnx.rewrites.unsqueeze import merge_unsqueezes


def simplify(model: Any) -> Any:
    """Simplify an `onnx_ir.Model` in place and return it; nothing in it tells where the code was on the disk."""
    from onnx_ir.passes import common

    for node in model.graph:
        node.name = _scoped_name(node) or node.name
    common.NameFixPass()(model)
    common.CommonSubexpressionEliminationPass()(model)
    merge_unsqueezes(model)
    common.RemoveUnusedNodesPass()(model)
    move_factors(model)
    fuse_for_runtime(model)
    common.RemoveUnusedNodesPass()(model)
    common.NameFixPass()(model)
    common.ClearMetadataAndDocStringPass()(model)
    _clear_metadata_of_values(model)
    return model


def _clear_metadata_of_values(model: Any) -> None:
    """Remove the exporter's notes on inputs, weights and activations, which onnx_ir's pass leaves."""
    graph = model.graph
    made = (value for node in graph for value in node.outputs)
    for value in (*graph.inputs, *graph.initializers.values(), *made):
        value.metadata_props.clear()


def _scoped_name(node: Any) -> str:
    """Return a node's name from its module and operator, such as layer1.0.conv1/conv2d."""
    scopes = ast.literal_eval(node.metadata_props.get("pkg.torch.onnx.name_scopes", "[]"))
    return "/".join(scope for scope in scopes[-2:] if not scope.startswith("_empty")).strip("/")
