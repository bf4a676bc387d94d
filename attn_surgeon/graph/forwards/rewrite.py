"""Write an operated module's code: its own graph with the grafts in it, or a wrapper around its own forward."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import fx, nn

from attn_surgeon.graph.forwards.binding import Binding, UntraceableError, first_parameter
from attn_surgeon.graph.forwards.items import get_item, put_item
from attn_surgeon.graph.forwards.operated import RESERVED, Code, as_original
from attn_surgeon.graph.forwards.placement import Placement
from attn_surgeon.graph.forwards.trace import ShallowGraph, node_inputs, replace_input, same_node_inlined, trace


def write_code(module: nn.Module, placements: Mapping[str, Placement]) -> Code:
    """Write the methods that send a module's tensors through its grafts; raise UntraceableError where it cannot.

    `placements` maps each graft's key in the module to where it is made, in the order the grafts were made.
    """
    sources: dict[str, str] = {}
    names: dict[str, Any] = {}
    edges = {key: place for key, place in placements.items() if place.kind == "edge"}
    for method in dict.fromkeys(place.method for place in edges.values()):
        sources |= _rewritten(module, method, edges, names)
    wraps = {key: place for key, place in placements.items() if place.kind != "edge"}
    if wraps:
        inner = "_inner_forward" if "forward" in sources else ""
        if inner:
            sources[inner] = _renamed(sources.pop("forward"), inner)
        sources["forward"] = _wrapper(module, inner or "_original.forward", wraps)
        names |= {"_get_item": get_item, "_put_item": put_item}
    return Code(sources, names)


def _rewritten(module: nn.Module, method: str, edges: Mapping[str, Placement], names: dict[str, Any]) -> dict[str, str]:
    """Rewrite one method; where train and eval mode take different paths, keep both.

    A trace holds the helper methods that the method calls, so their grafts are made in it too.
    """
    texts = {}
    bypasses = _bypasses(module, method, edges)
    graphs = {training: _Traces(module, edges, training) for training in (False, True)}
    for place in edges.values():
        if place.method == method:
            _require_same_place(graphs[False].of(method), graphs[True].of(method), place.node)
    for training, traces in graphs.items():
        shallow = traces.of(method)
        found = {key: traces.find(shallow, place.method, place.node) for key, place in edges.items()}
        seconds = {key: traces.second(shallow, place) for key, place in edges.items()}
        for key, node in found.items():
            if node is not None:
                _graft(shallow.graph, key, edges[key], node, seconds[key]())
        code = shallow.graph.python_code("self")
        names |= code.globals
        texts[training] = _with_lines(_tidy(code.src, method), bypasses)
    if texts[False] == texts[True]:
        return {method: texts[False]}
    train, evaluate = f"_{method.strip('_')}_train", f"_{method.strip('_')}_eval"
    return {
        train: _renamed(texts[True], train),
        evaluate: _renamed(texts[False], evaluate),
        method: _dispatch(method, train, evaluate),
    }


def _bypasses(module: nn.Module, method: str, edges: Mapping[str, Placement]) -> list[str]:
    """Send calls with a flag the other way round to the method as written, where no graft is on that path.

    timm's `forward_head(x, pre_logits=True)` stops before the classifier, and so before a graft in front of it.
    """
    own = [place for place in edges.values() if place.method == method]
    binding = own[0].binding
    return [
        line
        for name, value in binding.items()
        if isinstance(value, bool) and not _passes(module, method, {**binding, name: not value}, own)
        for line in (
            f"    if {name} is {not value}:",
            f"        return _original.{method}(self, {_arguments(module, method)})",
        )
    ]


def _passes(module: nn.Module, method: str, binding: Binding, own: Sequence[Placement]) -> bool:
    """Say whether a call with this binding may meet one of the placements' nodes."""
    try:
        graphs = [trace(module, binding, method=method, training=training) for training in (False, True)]
    except UntraceableError:
        return True
    wanted = {re.sub(r"_\d+$", "", place.node) for place in own}
    return any(re.sub(r"_\d+$", "", name) in wanted for graph in graphs for name in graph.nodes)


def _arguments(module: nn.Module, method: str) -> str:
    with as_original(module):
        parameters = list(inspect.signature(getattr(type(module), method)).parameters.values())[1:]
    named = [item for item in parameters if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)]
    return ", ".join(item.name if item.kind is item.POSITIONAL_ONLY else f"{item.name}={item.name}" for item in named)


def _with_lines(source: str, lines: Sequence[str]) -> str:
    """Put lines at the head of a method's body."""
    head, _, body = source.partition("\n")
    return "\n".join([head, *lines, body])


class _Traces:
    """The graphs of one module's methods in one mode."""

    def __init__(self, module: nn.Module, edges: Mapping[str, Placement], training: bool) -> None:
        self.module, self.training = module, training
        self.bindings = {place.method: place.binding for place in edges.values()}
        self.graphs: dict[str, ShallowGraph] = {}

    def of(self, method: str) -> ShallowGraph:
        """Trace a method, once."""
        if method not in self.graphs:
            self.graphs[method] = trace(self.module, self.bindings[method], method=method, training=self.training)
        return self.graphs[method]

    def find(self, shallow: ShallowGraph, method: str, name: str) -> fx.Node | None:
        """Find a method's node by name in a graph: that method's own, or one of a method that calls it."""
        own = self.of(method).nodes.get(name)
        if own is None:
            raise UntraceableError(f"its forward has no node '{name}' in every mode")
        return own if method == shallow.method else same_node_inlined(shallow, method, own)

    def second(self, shallow: ShallowGraph, place: Placement) -> Callable[[], tuple[fx.Node, ...]]:
        """Find the node whose value a block of two inputs takes as its second, after the grafts made there so far."""
        name, _, argument = place.other.partition(":")
        node = self.find(shallow, place.method, name) if name else None
        if node is None:
            return tuple
        return lambda: (node_inputs(node)[int(argument)] if argument else _last_graft(node),)


def _require_same_place(evaluate: ShallowGraph, train: ShallowGraph, name: str) -> None:
    """Refuse a node whose name may mean another place in train mode, because it counts otherwise there."""
    node = evaluate.nodes.get(name)
    if node is not None and len(_likes(evaluate, node)) != len(_likes(train, node)):
        raise UntraceableError(f"its forward has another number of nodes like '{name}' in train mode")


def _likes(shallow: ShallowGraph, node: fx.Node) -> list[fx.Node]:
    return [other for other in shallow.nodes.values() if (other.op, other.target) == (node.op, node.target)]


def _graft(graph: fx.Graph, key: str, place: Placement, node: fx.Node, second: tuple[fx.Node, ...]) -> None:
    target = f"{RESERVED}.{key}"
    if place.side == "before":
        source = node_inputs(node)[place.argument]
        with graph.inserting_before(node):
            replace_input(node, place.argument, graph.call_module(target, (source, *second)))
        return
    anchor = _last_graft(node)
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


def _last_graft(node: fx.Node) -> fx.Node:
    """Follow the grafts already made after `node`, so that a second one there comes after the first."""
    anchor: fx.Node | None = node
    while anchor is not None:
        last = anchor
        anchor = next((user for user in last.users if user.meta.get("grafted_after") is node), None)
    return last


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


def _wrapper(module: nn.Module, inner: str, wraps: Mapping[str, Placement]) -> str:
    """Write a forward that calls the module's own one with the grafts around it."""
    entries = [key for key, place in wraps.items() if place.kind == "entry"]
    exits = {key: place.item for key, place in wraps.items() if place.kind == "exit"}
    call = f"self.{inner}(" if inner.startswith("_inner") else f"{inner}(self, "
    first = first_parameter(module) if entries else ""
    lines = [f"def forward(self, {first}, *args, **kwargs):" if first else "def forward(self, *args, **kwargs):"]
    lines += [f"    {first} = self.{RESERVED}.{key}({first})" for key in entries]
    lines += [f"    output = {call}{first + ', ' if first else ''}*args, **kwargs)"]
    lines += [f"    output = {_attended(key, item)}" for key, item in exits.items()]
    return "\n".join([*lines, "    return output", ""])


def _attended(key: str, item: str) -> str:
    """Write the call of a graft on the output, or on one item of it."""
    if not item:
        return f"self.{RESERVED}.{key}(output)"
    return f"_put_item(output, {item!r}, self.{RESERVED}.{key}(_get_item(output, {item!r})))"
