"""Keep grafts in layers whose norm is folded into the convolution before it, as the `fuse` of YOLOs does.

Such a layer has a second forward without the norm, `act(conv(x))` for `act(bn(conv(x)))`, which `fuse` assigns to it.
A graft after the norm, or before the convolution, has its place in that forward too: the rewritten forward without the
calls of the norm. A graft between the two has none, so `fuse` must not fold that layer: while it runs, the layer is no
instance of the classes that `fuse` looks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import fx, nn

from attn_surgeon.surgery.rewrite.assigned_forwards import FOLDED
from attn_surgeon.surgery.rewrite.binding import TENSOR, Binding, UntraceableError
from attn_surgeon.surgery.rewrite.edges import called_children
from attn_surgeon.surgery.rewrite.grafts import RESERVED, grafts_of, original_children
from attn_surgeon.surgery.rewrite.operated_modules import original_class, set_class
from attn_surgeon.surgery.rewrite.signature import first_parameter
from attn_surgeon.surgery.rewrite.trace import trace

# ultralytics and YOLOv5; YOLOX. Layers of YOLOv7 and YOLOv6 merge branches without a forward of that kind.
_FUSED_FORWARDS = ("forward_fuse", "fuseforward")
_MERGING = (*_FUSED_FORWARDS, "fuse_repvgg_block", "switch_to_deploy")


def fused_forward(module: nn.Module) -> str:
    """Return the name of the forward that `fuse` assigns to a layer; an empty text where its class has none."""
    return next((name for name in _FUSED_FORWARDS if hasattr(original_class(module), name)), "")


def fold(module: nn.Module, graph: fx.Graph, binding: Binding) -> bool:
    """Remove the folded norms from the graph of a layer's forward with grafts, in place.

    Returns:
        Whether the graph is now that of the fused forward with the same grafts, and no graft was before a norm.
    """
    try:
        fused = trace(module, binding, method=fused_forward(module)).graph
    except UntraceableError:
        return False
    for node in _calls(graph, called_children(graph) - called_children(fused)):
        source = node.args[0] if len(node.all_input_nodes) == 1 else None
        if not isinstance(source, fx.Node) or not _is_folded_into(module, source):
            return False
        node.replace_all_uses_with(source)
        graph.erase_node(node)
    return _steps(graph) == _steps(fused)


def _calls(graph: fx.Graph, children: set[str]) -> list[fx.Node]:
    return [n for n in graph.nodes if n.op == "call_module" and str(n.target).partition(".")[0] in children]


def _is_folded_into(module: nn.Module, node: fx.Node) -> bool:
    """Return whether a node, which a norm takes, is a layer with weights whose output nothing else takes."""
    if node.op != "call_module" or _is_graft(node) or len(node.users) != 1:
        return False
    return hasattr(module.get_submodule(str(node.target)), "weight")


def _is_graft(node: fx.Node) -> bool:
    return node.op == "call_module" and str(node.target).startswith(f"{RESERVED}.")


def _steps(graph: fx.Graph) -> list[tuple[Any, ...]]:
    """Return what a graph computes without its grafts: operations with their inputs, which are numbered."""
    numbers: dict[fx.Node, str] = {}
    steps: list[tuple[Any, ...]] = []
    for node in graph.nodes:
        if _is_graft(node):
            numbers[node] = numbers[node.args[0]]
            continue
        inputs = fx.map_arg((node.args, node.kwargs), lambda other: numbers[other])
        numbers[node] = f"%{len(steps)}"
        steps.append((node.op, node.op == "placeholder" or node.target, inputs))
    return steps


@contextmanager
def unfoldable_hidden(network: nn.Module) -> Iterator[None]:
    """Until the context ends, layers that would lose a graft if fused are instances of no class but `nn.Module`."""
    layers = {layer: type(layer) for layer in network.modules() if _loses_grafts(layer)}
    for layer, cls in layers.items():
        set_class(layer, _other_class(cls))
    try:
        yield
    finally:
        for layer, cls in layers.items():
            set_class(layer, cls)


def _other_class(cls: type[nn.Module]) -> type[nn.Module]:
    """Build a class with the attributes of another one that does not inherit from it."""
    bases = [base for base in reversed(cls.__mro__) if base not in nn.Module.__mro__]
    attributes = {name: item for base in bases for name, item in vars(base).items()}
    for name in ("__dict__", "__weakref__", "__reduce_ex__"):
        attributes.pop(name, None)
    return type(cls.__name__, (nn.Module,), attributes)


def _loses_grafts(layer: nn.Module) -> bool:
    """Return whether a layer would lose one of the grafts inside it, or in its children, if it were fused."""
    if not any(hasattr(type(layer), name) for name in _MERGING):
        return False
    own = grafts_of(layer)
    inside = own is not None and any(own.record(key).placement.kind == "edge" for key in own)
    if inside and not hasattr(type(layer), FOLDED + fused_forward(layer)):
        return True
    children = original_children(layer).items()
    grafted = {name for name, child in children if child is not None and any(map(grafts_of, child.modules()))}
    return bool(grafted) and not grafted <= _outlasting(layer)


def _outlasting(layer: nn.Module) -> set[str]:
    """Return the names of the children that fusing a layer leaves as they are, which are not before a folded norm."""
    try:
        binding = {first_parameter(original_class(layer).forward): TENSOR}
        before, after = (trace(layer, binding, method=name).graph for name in ("forward", fused_forward(layer)))
    except (UntraceableError, AttributeError):
        return set()
    upstream = set(_calls(before, called_children(before) - called_children(after)))
    for node in reversed(before.nodes):
        if node in upstream:
            upstream.update(node.all_input_nodes)
    changed = {str(node.target).partition(".")[0] for node in upstream}
    return called_children(after) - changed if fold(layer, before, binding) else set()
