"""Insert grafts into a `torch.fx.GraphModule` as nodes of its graph, from which its forward is generated.

Copies, pickles, `recompile()` and torchvision's DualGraphModule, which switches between a train and an eval graph, then
keep the grafts.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

from torch import fx

from attn_surgeon.surgery.rewrite.binding import UntraceableError
from attn_surgeon.surgery.rewrite.edges import graft_node, remove_nodes, second_input
from attn_surgeon.surgery.rewrite.grafts import RESERVED
from attn_surgeon.surgery.rewrite.placement import Placement
from attn_surgeon.surgery.rewrite.trace import ShallowGraph, name_nodes

_PAIR = ("train_graph", "eval_graph")


def graphs_of(module: fx.GraphModule) -> list[fx.Graph]:
    """Return the graph of a module or, for torchvision's DualGraphModule, those for train and eval mode."""
    return [vars(module)[name] for name in _PAIR] if _is_dual(module) else [module.graph]


def set_graphs(module: fx.GraphModule, graphs: Sequence[fx.Graph]) -> None:
    """Replace the graphs of a module, in the order of `graphs_of`, and recompile it."""
    if _is_dual(module):
        for name, graph in zip(_PAIR, graphs, strict=True):
            setattr(module, name, graph)
        module.graph = graphs[0 if module.training else 1]
    else:
        module.graph = graphs[0]


def _is_dual(module: fx.GraphModule) -> bool:
    return all(isinstance(vars(module).get(name), fx.Graph) for name in _PAIR)


def ungrafted(graph: fx.Graph) -> fx.Graph:
    """Return a copy of a graph without graft nodes."""
    plain = copy.deepcopy(graph)
    plain._tracer_cls = graph._tracer_cls
    remove_nodes(plain, lambda target: target.startswith(f"{RESERVED}."))
    return plain


def own_graph(module: fx.GraphModule) -> ShallowGraph:
    """Return the (eval) graph of a module without graft nodes, and with the names of its sites."""
    graph = ungrafted(graphs_of(module)[-1])
    nodes = name_nodes(graph)
    aliases = {name: node for name, node in _outputs_of_modules(graph).items() if name not in nodes}
    return ShallowGraph("forward", {}, graph, nodes | aliases, {}, frozenset(aliases))


def _outputs_of_modules(graph: fx.Graph) -> dict[str, fx.Node]:
    """Return the output node of each module that a graph was traced through, where it is a single node."""
    inside: dict[str, dict[fx.Node, None]] = {}
    for node in graph.nodes:
        for path in node.meta.get("nn_module_stack", ()):
            inside.setdefault(path, {})[node] = None
    exits = {
        path: [node for node in nodes if any(user not in nodes for user in node.users)]
        for path, nodes in inside.items()
    }
    return {path: nodes[0] for path, nodes in exits.items() if path and len(nodes) == 1}


def grafted(graph: fx.Graph, placements: Mapping[str, Placement]) -> fx.Graph:
    """Return a copy of a graph with exactly these grafts; raise UntraceableError where a node does not exist."""
    new = ungrafted(graph)
    nodes = name_nodes(new)
    for key, place in placements.items():
        name, _, argument = place.other.partition(":")
        if place.kind != "edge" or place.node not in nodes or (name and name not in nodes):
            raise UntraceableError(f"its graph has no node '{place.node or place.kind}'")
        second = second_input(nodes[name], argument) if name else ()
        graft_node(new, key, place, nodes[place.node], second)
    new.lint()
    return new


def calls(module: fx.GraphModule, target: str) -> bool:
    """Return whether all graphs of a module call the module at a path."""
    return all(any(node.op == "call_module" and node.target == target for node in g.nodes) for g in graphs_of(module))


def drop_calls(module: fx.GraphModule, chosen: Callable[[str], bool]) -> None:
    """Remove the graft nodes whose target is chosen from the graphs of a module, in place."""
    graphs = [copy.deepcopy(graph) for graph in graphs_of(module)]
    for old, graph in zip(graphs_of(module), graphs, strict=True):
        graph._tracer_cls = old._tracer_cls
        remove_nodes(graph, chosen)
    set_graphs(module, graphs)
