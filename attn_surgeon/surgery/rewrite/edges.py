"""Insert graft nodes into a `torch.fx` graph, after a node or on an edge into it, and remove them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import fx

from attn_surgeon.surgery.rewrite.grafts import RESERVED
from attn_surgeon.surgery.rewrite.output_items import get_item, put_item
from attn_surgeon.surgery.rewrite.placement import Placement


def node_inputs(node: fx.Node) -> list[fx.Node]:
    """Return the nodes among the arguments of a node, in order and with repetitions, unlike `all_input_nodes`."""
    inputs: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), inputs.append)
    return inputs


def replace_input(node: fx.Node, index: int, new: fx.Node) -> None:
    """Replace the input of `node` at an index of `node_inputs` by another node."""
    count = itertools.count()
    replaced = fx.map_arg((node.args, node.kwargs), lambda old: new if next(count) == index else old)
    node.args, node.kwargs = replaced


def graft_node(graph: fx.Graph, key: str, place: Placement, node: fx.Node, second: tuple[fx.Node, ...]) -> None:
    """Insert the call of a graft after a node, or on one of the edges into it."""
    target = f"{RESERVED}.{key}"
    if place.side == "before":
        source = node_inputs(node)[place.argument]
        with graph.inserting_before(node):
            replace_input(node, place.argument, graph.call_module(target, (source, *second)))
        return
    anchor = last_graft(node)
    users = set(anchor.users)
    with graph.inserting_before(anchor.next):
        new = _call(graph, target, anchor, second, place.item)
    anchor.replace_all_uses_with(new, delete_user_cb=lambda user: user in users)
    new.meta["grafted_after"] = node


def _call(graph: fx.Graph, target: str, anchor: fx.Node, second: tuple[fx.Node, ...], item: str) -> fx.Node:
    """Add the call of a graft on the value of a node, or on one item of it."""
    if not item:
        return graph.call_module(target, (anchor, *second))
    x = graph.call_function(get_item, (anchor, item))
    y = graph.call_module(target, (x, *second))
    return graph.call_function(put_item, (anchor, item, y))


def last_graft(node: fx.Node) -> fx.Node:
    """Return the last of the grafts already inserted after `node`, so that another one comes after it."""
    anchor: fx.Node | None = node
    while anchor is not None:
        last = anchor
        anchor = next((user for user in last.users if user.meta.get("grafted_after") is node), None)
    return last


def second_input(node: fx.Node, argument: str) -> tuple[fx.Node, ...]:
    """Return the second input of a block: input number `argument` of `node` or, without one, the output of `node`."""
    return (node_inputs(node)[int(argument)] if argument else last_graft(node),)


def called_children(graph: fx.Graph) -> set[str]:
    """Return the names of the module's children that a graph calls, without its grafts."""
    targets = {str(node.target).partition(".")[0] for node in graph.nodes if node.op == "call_module"}
    return targets - {RESERVED}


def remove_nodes(graph: fx.Graph, targets: Callable[[str], bool]) -> None:
    """Remove the graft nodes whose target is chosen from a graph, with the nodes that get and put an item for them."""
    for node in reversed(list(graph.nodes)):
        if node.op == "call_module" and targets(node.target):
            source, last = node.args[0], node
            on_item = source.op == "call_function" and source.target is get_item
            if on_item:
                last = next(user for user in node.users if user.target is put_item)
            last.replace_all_uses_with(source.args[0] if on_item else source)
            for removed in (last, node, source) if on_item else (node,):
                graph.erase_node(removed)
