"""Edges of a graph: the nodes that flow into a node, and grafts put between them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from torch import fx

from attn_surgeon.surgery.rewrite.grafts import RESERVED
from attn_surgeon.surgery.rewrite.items import get_item, put_item
from attn_surgeon.surgery.rewrite.placement import Placement


def node_inputs(node: fx.Node) -> list[fx.Node]:
    """List the nodes that flow into a node, in the order of its arguments and as often as they do."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return found


def replace_input(node: fx.Node, index: int, new: fx.Node) -> None:
    """Replace the input of `node` at this index by another node."""
    count = itertools.count()
    replaced = fx.map_arg((node.args, node.kwargs), lambda old: new if next(count) == index else old)
    node.args, node.kwargs = replaced


def graft_node(graph: fx.Graph, key: str, place: Placement, node: fx.Node, second: tuple[fx.Node, ...]) -> None:
    """Insert a graft after a node, or on one of the edges into it."""
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
    """Call a graft on a node's value, or on one of several tensors in it."""
    if not item:
        return graph.call_module(target, (anchor, *second))
    taken = graph.call_function(get_item, (anchor, item))
    attended = graph.call_module(target, (taken, *second))
    return graph.call_function(put_item, (anchor, item, attended))


def last_graft(node: fx.Node) -> fx.Node:
    """Follow the grafts already made after `node`, so that a second one there comes after the first."""
    anchor: fx.Node | None = node
    while anchor is not None:
        last = anchor
        anchor = next((user for user in last.users if user.meta.get("grafted_after") is node), None)
    return last


def second_input(node: fx.Node, argument: str) -> tuple[fx.Node, ...]:
    """Return the node whose value a block of two inputs takes as its second: an input of `node`, or what it gives."""
    return (node_inputs(node)[int(argument)] if argument else last_graft(node),)


def called_children(graph: fx.Graph) -> set[str]:
    """Return the children of the module that a graph calls, by name, without its grafts."""
    targets = {str(node.target).partition(".")[0] for node in graph.nodes if node.op == "call_module"}
    return targets - {RESERVED}


def remove_nodes(graph: fx.Graph, targets: Callable[[str], bool]) -> None:
    """Remove the grafts of a graph in which they are nodes, those whose target is chosen."""
    for node in reversed(list(graph.nodes)):
        if node.op == "call_module" and targets(node.target):
            source, last = node.args[0], node
            taken = source.op == "call_function" and source.target is get_item
            if taken:  # an item was taken out, attended to and put back
                last = next(user for user in node.users if user.target is put_item)
            last.replace_all_uses_with(source.args[0] if taken else source)
            for done in (last, node, source) if taken else (node,):
                graph.erase_node(done)
