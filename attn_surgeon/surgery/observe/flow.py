"""Match the nodes of a shallow `torch.fx` graph with the operations of an observed run, as shape propagation does.

A node matches the event with the same function name and the same inputs, and then has that event's output. A node that
matches no event is evaluated on the meta device, which gives at least its shape and dtype.
"""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import Tensor, fx, nn

from attn_surgeon.surgery.observe.functions import plain_name
from attn_surgeon.surgery.observe.observe import Call, Observation
from attn_surgeon.surgery.observe.recorder import Event
from attn_surgeon.surgery.rewrite.binding import require, require_container
from attn_surgeon.surgery.rewrite.operated_modules import original_class
from attn_surgeon.surgery.rewrite.trace import ShallowGraph
from attn_surgeon.surgery.running import tensors


class _Unknown:
    """Marks a node whose value was not recorded and that no meta kernel can compute."""


def flow(module: nn.Module, shallow: ShallowGraph, call: Call, observation: Observation) -> dict[fx.Node, Any]:
    """Return the value of every node of a module's graph in one observed call, as meta tensors, where known."""
    outputs = _recorded_outputs(module, call, observation)
    values: dict[fx.Node, Any] = {}
    arguments = _arguments(module, call)
    pending = list(observation.events_in.get(call.index, ()))
    for node in shallow.graph.nodes:
        if node.op == "placeholder":
            values[node] = arguments.get(str(node.target), _Unknown)
        elif node.op == "call_module":
            queue = outputs.get(id(module.get_submodule(str(node.target))), [])
            values[node] = queue.pop(0) if queue else _Unknown
        elif node.op != "output" and node.target not in (require, require_container):
            values[node] = _evaluate(module, node, values, pending, observation)
    return {node: value for node, value in values.items() if value is not _Unknown}


def _recorded_outputs(module: nn.Module, call: Call, observation: Observation) -> dict[int, list[Any]]:
    """Return the outputs of each module called in a call, in execution order, by the module's `id`."""
    outputs: dict[int, list[Any]] = {}
    for callee in observation.callees.get(call.index, ()):
        outputs.setdefault(id(observation.module(callee.path)), []).append(callee.output)
    return outputs


def _arguments(module: nn.Module, call: Call) -> dict[str, Any]:
    signature = inspect.signature(original_class(module).forward)
    bound = signature.bind(None, *call.args, **call.kwargs)
    bound.apply_defaults()
    return bound.arguments


def _evaluate(
    module: nn.Module, node: fx.Node, values: dict[fx.Node, Any], pending: list[Event], observation: Observation
) -> Any:
    inputs = [values.get(source, _Unknown) for source in node.all_input_nodes]
    if any(value is _Unknown for value in inputs):
        return _Unknown
    args = fx.map_arg(node.args, lambda source: values[source])
    kwargs = fx.map_arg(node.kwargs, lambda source: values[source])
    parameters = {id(values[source]) for source in node.all_input_nodes if source.op == "get_attr"}
    events = _events(node, tensors((args, kwargs)), parameters, pending, observation)
    result = _on_meta(module, node, args, kwargs) if len(events) != 1 else None
    if len(events) > 1:  # a wrapped function may call another of the same name, whose event matches too
        events = [event for event in events if _shapes(event.output) == _shapes(result)] or events
    if not events:
        return result
    pending.remove(events[0])
    return events[0].output


def _on_meta(module: nn.Module, node: fx.Node, args: Any, kwargs: Any) -> Any:
    try:
        with torch.no_grad():
            return _apply(module, node, args, kwargs)
    except Exception:  # a function without a meta kernel, or one that reads values
        return _Unknown


def _shapes(value: Any) -> list[torch.Size]:
    return [tensor.shape for tensor in tensors(value)]


def _events(
    node: fx.Node, inputs: list[Tensor], parameters: set[int], pending: list[Event], observation: Observation
) -> list[Event]:
    """Return the pending events that match a node by function name and inputs.

    Parameters are not compared, for the graph's `get_attr` nodes are not the stand-ins that the recorder made. An input
    also matches where it was changed in place after its node computed it.
    """
    if node.op not in ("call_function", "call_method"):
        return []
    name = plain_name(node.target if isinstance(node.target, str) else getattr(node.target, "__name__", ""))
    return [
        event
        for event in pending
        if plain_name(event.function) == name
        and len(event.inputs) == len(inputs)
        and all(
            id(value) in parameters or _is_version(recorded, value, observation)
            for recorded, value in zip(event.inputs, inputs, strict=True)
        )
    ]


def _is_version(recorded: Tensor, value: Tensor, observation: Observation) -> bool:
    return any(version is recorded for version in observation.versions(value))


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
