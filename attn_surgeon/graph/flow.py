"""What flows through a shallow graph: every node's value as a meta tensor, without computing anything."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, fx, nn

from attn_surgeon.graph.binding import require
from attn_surgeon.graph.observe import Call, Observation
from attn_surgeon.graph.operated import original_class
from attn_surgeon.graph.trace import ShallowGraph


class _Unknown:
    """Stand for a value that no meta kernel could tell."""


def flow(module: nn.Module, shallow: ShallowGraph, call: Call, seen: Observation) -> dict[fx.Node, Any]:
    """Follow one observed call through the module's graph; nodes whose value is unknown are left out."""
    outputs = _recorded_outputs(module, call, seen)
    values: dict[fx.Node, Any] = {}
    arguments = _arguments(module, call)
    for node in shallow.graph.nodes:
        if node.op == "placeholder":
            values[node] = arguments.get(str(node.target), _Unknown)
        elif node.op == "call_module":
            queue = outputs.get(id(module.get_submodule(str(node.target))), [])
            values[node] = queue.pop(0) if queue else _Unknown
        elif node.op != "output" and node.target is not require:
            values[node] = _evaluate(module, node, values)
    return {node: value for node, value in values.items() if value is not _Unknown}


def _recorded_outputs(module: nn.Module, call: Call, seen: Observation) -> dict[int, list[Any]]:
    """Queue what each called module gave back, by the module's identity."""
    outputs: dict[int, list[Any]] = {}
    for callee in seen.callees.get(call.index, ()):
        outputs.setdefault(id(seen.module(callee.path)), []).append(callee.output)
    return outputs


def _arguments(module: nn.Module, call: Call) -> dict[str, Any]:
    signature = inspect.signature(original_class(module).forward)
    bound = signature.bind(None, *call.args, **call.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _evaluate(module: nn.Module, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
    inputs = [values.get(source, _Unknown) for source in node.all_input_nodes]
    if any(value is _Unknown for value in inputs):
        return _Unknown
    args = fx.map_arg(node.args, lambda source: values[source])
    kwargs = fx.map_arg(node.kwargs, lambda source: values[source])
    try:
        with torch.no_grad():
            return _apply(module, node, args, kwargs)
    except Exception:  # a function without a meta kernel, or one that looks at values
        return _Unknown


def _apply(module: nn.Module, node: fx.Node, args: Any, kwargs: Any) -> Any:
    if node.op == "get_attr":
        value: Any = module
        for part in str(node.target).split("."):
            value = getattr(value, part)
        return value.to("meta") if isinstance(value, Tensor) else value
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    assert callable(node.target)
    return node.target(*args, **kwargs)
