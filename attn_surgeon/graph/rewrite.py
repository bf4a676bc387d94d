"""Write an operated module's code: its own graph with the grafts in it, or a wrapper around its own forward."""

from __future__ import annotations

import inspect
import re
from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from attn_surgeon.graph.binding import UntraceableError
from attn_surgeon.graph.operated import RESERVED, Code, as_original
from attn_surgeon.graph.placement import Placement
from attn_surgeon.graph.trace import ShallowGraph, trace


def write_code(module: nn.Module, placements: Mapping[str, Placement]) -> Code:
    """Write the methods that send a module's tensors through its grafts; raise UntraceableError where it cannot.

    `placements` maps each graft's key in the module to where it is made, in the order the grafts were made.
    """
    sources: dict[str, str] = {}
    names: dict[str, Any] = {}
    edges = {key: place for key, place in placements.items() if place.kind == "edge"}
    for method in dict.fromkeys(place.method for place in edges.values()):
        chosen = {key: place for key, place in edges.items() if place.method == method}
        sources |= _rewritten(module, method, chosen, names)
    wraps = {key: place.kind for key, place in placements.items() if place.kind != "edge"}
    if wraps:
        inner = "_inner_forward" if "forward" in sources else ""
        if inner:
            sources[inner] = _renamed(sources.pop("forward"), inner)
        sources["forward"] = _wrapper(module, inner or "_original.forward", wraps)
    return Code(sources, names)


def _rewritten(module: nn.Module, method: str, edges: Mapping[str, Placement], names: dict[str, Any]) -> dict[str, str]:
    """Rewrite one method; where train and eval mode take different paths, keep both."""
    texts = {}
    for training in (False, True):
        graph = trace(module, next(iter(edges.values())).binding, method=method, training=training)
        for key, place in edges.items():
            _graft(graph, key, place)
        code = graph.graph.python_code("self")
        names |= code.globals
        texts[training] = _tidy(code.src, method)
    if texts[False] == texts[True]:
        return {method: texts[False]}
    train, evaluate = f"_{method.strip('_')}_train", f"_{method.strip('_')}_eval"
    return {
        train: _renamed(texts[True], train),
        evaluate: _renamed(texts[False], evaluate),
        method: _dispatch(method, train, evaluate),
    }


def _graft(shallow: ShallowGraph, key: str, place: Placement) -> None:
    node = shallow.nodes.get(place.node)
    if node is None:
        raise UntraceableError(f"its forward has no node '{place.node}' in every mode")
    graph = shallow.graph
    if place.side == "before":
        source = tensor_inputs(node)[place.argument]
        with graph.inserting_before(node):
            new = graph.call_module(f"{RESERVED}.{key}", (source,))
        node.args = tuple(new if argument is source else argument for argument in node.args)
        return
    anchor = _last_graft(node)
    with graph.inserting_after(anchor):
        new = graph.call_module(f"{RESERVED}.{key}", (anchor,))
    anchor.replace_all_uses_with(new, delete_user_cb=lambda user: user is not new)
    new.meta["grafted_after"] = node


def _last_graft(node: fx.Node) -> fx.Node:
    """Follow the grafts already made after `node`, so that a second one there comes after the first."""
    anchor: fx.Node | None = node
    while anchor is not None:
        last = anchor
        anchor = next((user for user in last.users if user.meta.get("grafted_after") is node), None)
    return last


def tensor_inputs(node: fx.Node) -> list[fx.Node]:
    """List the nodes that flow into a node as its own positional arguments."""
    return [argument for argument in node.args if isinstance(argument, fx.Node)]


def _tidy(source: str, method: str) -> str:
    return _renamed(source.strip("\n") + "\n", method)


def _renamed(source: str, name: str) -> str:
    return re.sub(r"^def \w+\(", f"def {name}(", source, count=1, flags=re.MULTILINE)


def _dispatch(method: str, train: str, evaluate: str) -> str:
    return (
        f"def {method}(self, *args, **kwargs):\n"
        f"    if self.training:\n"
        f"        return self.{train}(*args, **kwargs)\n"
        f"    return self.{evaluate}(*args, **kwargs)\n"
    )


def _wrapper(module: nn.Module, inner: str, wraps: Mapping[str, str]) -> str:
    """Write a forward that calls the module's own one with the grafts around it."""
    entries = [key for key, kind in wraps.items() if kind == "entry"]
    exits = [key for key, kind in wraps.items() if kind == "exit"]
    call = f"self.{inner}(" if inner.startswith("_inner") else f"{inner}(self, "
    first = _first_parameter(module) if entries else ""
    lines = [f"def forward(self, {first}, *args, **kwargs):" if first else "def forward(self, *args, **kwargs):"]
    lines += [f"    {first} = self.{RESERVED}.{key}({first})" for key in entries]
    lines += [f"    output = {call}{first + ', ' if first else ''}*args, **kwargs)"]
    lines += [f"    output = self.{RESERVED}.{key}(output)" for key in exits]
    return "\n".join([*lines, "    return output", ""])


def _first_parameter(module: nn.Module) -> str:
    with as_original(module):
        parameters = list(inspect.signature(type(module).forward).parameters.values())[1:]
    if not parameters or parameters[0].kind is inspect.Parameter.VAR_POSITIONAL:
        return "input"
    return parameters[0].name
