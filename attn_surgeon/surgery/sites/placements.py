"""The placements of grafts at a site, the best one first.

A graft is placed in the innermost module possible. At the output of a module with children, it wraps that module's
forward. At that of a leaf such as a BatchNorm, it is on an edge in the graph of the module that calls it, unless other
methods of that module call it too. At that of a Sequential, it is at the output of its last child, because parents also
iterate, slice and checkpoint Sequentials without calling them.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import fx, nn

from attn_surgeon.surgery.observe.observe import Observation
from attn_surgeon.surgery.rewrite.binding import UntraceableError, bind_calls, helper_methods
from attn_surgeon.surgery.rewrite.graph_module import own_graph
from attn_surgeon.surgery.rewrite.operated_modules import original_class
from attn_surgeon.surgery.rewrite.placement import Placement, Side
from attn_surgeon.surgery.rewrite.signature import first_parameter
from attn_surgeon.surgery.rewrite.trace import ShallowGraph, same_node_inlined, trace

_logger = logging.getLogger(__name__)


class PlacementFinder:
    """Finds the placements of grafts in the graphs of an observed network's modules, which are traced once each."""

    def __init__(self, seen: tuple[Observation, ...]) -> None:
        self.first, self.seen = seen[0], seen
        self._graphs: dict[str, ShallowGraph | str] = {}
        self._helpers: dict[tuple[str, str], ShallowGraph | None] = {}

    def graph(self, path: str) -> ShallowGraph | str:
        """Return a module's own graph, or the reason why it has none."""
        if path not in self._graphs:
            self._graphs[path] = self._trace(path)
        return self._graphs[path]

    def _trace(self, path: str) -> ShallowGraph | str:
        module = self.first.module(path)
        reason = opaque(module)
        if reason:
            return reason
        if isinstance(module, fx.GraphModule):
            return own_graph(module)
        calls = [call for seen in self.seen for call in seen.calls.get(path, ())]
        try:
            forward = original_class(module).forward
            return trace(module, bind_calls(forward, [(call.args, call.kwargs) for call in calls]))
        except UntraceableError as error:
            _logger.info("the forward of %s is not traced, so grafts wrap it: %s", path or "the network", error)
            return str(error)

    def at_item(self, path: str, caller: str, node: fx.Node | None, item: str) -> tuple[Placement, ...]:
        """Return the placements at one of several tensors that a module returns."""
        edges = () if node is None else self.at_node(caller, node, "after", item=item)
        wrap = Placement("exit", path, "after", item=item)
        return edges if has_fixed_class(self.first.module(path)) else (wrap, *edges)

    def at_module(self, path: str, caller: str, node: fx.Node | None, side: Side) -> tuple[Placement, ...]:
        """Return the placements at a module's output or input; `node` is its only call in the caller's graph, if so."""
        module = self.first.module(path)
        edges = () if node is None else self.at_node(caller, node, side)
        if has_fixed_class(module):
            return (*(self._own_exit(path) if side == "after" else ()), *edges)
        wrap = Placement("exit" if side == "after" else "entry", path, side)
        if is_sequential(module):
            inner = self._through_sequential(path, side)
            return (*inner, *edges, wrap)
        if any(True for _ in module.children()):
            own_exit = self._own_exit(path) if side == "after" else ()
            return (wrap, *own_exit, *edges)
        elsewhere = side == "after" and node is not None and self._called_elsewhere(caller, str(node.target))
        return (wrap, *edges) if elsewhere else (*edges, wrap)

    def _called_elsewhere(self, caller: str, child: str) -> bool:
        """Return whether a module's class has another method with the forward's parameters that uses the child.

        timm's `forward_intermediates` runs the network's children itself.
        """
        shallow, module = self.graph(caller), self.first.module(caller)
        helpers = shallow.helpers if isinstance(shallow, ShallowGraph) else {}
        given = first_parameter(original_class(module).forward)
        codes = [
            method.__code__ for name, method in helper_methods(original_class(module)).items() if name not in helpers
        ]
        others = [code for code in codes if code.co_varnames[1:2] == (given,) and code.co_argcount > 1]
        return any(child.partition(".")[0] in code.co_names for code in others)

    def at_node(
        self, owner: str, node: fx.Node, side: Side, *, argument: int = 0, item: str = ""
    ) -> tuple[Placement, ...]:
        """Return the placements at a node: in the helper method that computes it, else in the forward."""
        shallow = self.graph(owner)
        assert isinstance(shallow, ShallowGraph)
        inlined = Placement(
            "edge", owner, side, "forward", shallow.name_of(node), argument, item, binding=shallow.binding
        )
        helper = self._helper(owner, shallow, node)
        if helper is None:
            return (inlined,)
        own = same_node_inlined(helper, helper.method, node)
        if own is None:
            return (inlined,)
        name = helper.name_of(own)
        return (replace(inlined, method=helper.method, node=name, binding=helper.binding), inlined)

    def _helper(self, owner: str, shallow: ShallowGraph, node: fx.Node) -> ShallowGraph | None:
        """Return the graph of the helper method that a node is in, so that calls of that method run the graft too."""
        method = node.meta.get("method")
        if method not in shallow.helpers:
            return None
        if (owner, method) not in self._helpers:
            module = self.first.module(owner)
            try:
                self._helpers[owner, method] = trace(module, shallow.helpers[method], method=method)
            except UntraceableError:
                self._helpers[owner, method] = None
        return self._helpers[owner, method]

    def _own_exit(self, path: str) -> tuple[Placement, ...]:
        """Return the placement on the edge to the output of the module's own graph, if one node computes it."""
        shallow = self.graph(path)
        if not isinstance(shallow, ShallowGraph):
            return ()
        result = shallow.graph.output_node().args[0]
        if not isinstance(result, fx.Node) or result not in shallow.nodes.values():
            return ()
        return (Placement("edge", path, "after", "forward", shallow.name_of(result), binding=shallow.binding),)

    def _through_sequential(self, path: str, side: Side) -> tuple[Placement, ...]:
        """Return the placements at the last (or first) child, if it runs exactly when the Sequential does."""
        children = list(self.first.module(path).named_children())
        if not children:
            return ()
        child = f"{path}.{children[-1 if side == 'after' else 0][0]}".removeprefix(".")
        calls = self.first.calls.get(child, ())
        own = all(self.first.caller_path(call) == path for call in calls)
        if not own or len(calls) != len(self.first.calls[path]):
            return ()
        return self.at_module(child, path, None, side)


def has_fixed_class(module: nn.Module) -> bool:
    """Return whether a module's class cannot be changed, because it was scripted or is a GraphModule."""
    return isinstance(module, (torch.jit.ScriptModule, fx.GraphModule))


def opaque(module: nn.Module) -> str:
    """Return why a module's forward is never traced: it is torch's own, scripted, or set on the object."""
    if isinstance(module, torch.jit.ScriptModule):
        return "it was scripted"
    if "forward" in vars(module):
        return "its forward was replaced on the object"
    defining = next(cls for cls in original_class(module).__mro__ if "forward" in vars(cls))
    if defining.__module__.startswith("torch.nn."):
        return "its forward is torch's own"
    return ""


def is_sequential(module: nn.Module) -> bool:
    """Return whether a module runs its children one after the other and nothing else."""
    return not has_fixed_class(module) and original_class(module).forward is nn.Sequential.forward


def caller_nodes(shallow: ShallowGraph, module: nn.Module, callee: nn.Module) -> list[fx.Node]:
    """Return the nodes of a module's graph that call `callee`."""
    return [
        node
        for node in shallow.graph.nodes
        if node.op == "call_module" and module.get_submodule(str(node.target)) is callee
    ]
