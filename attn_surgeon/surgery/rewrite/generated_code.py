"""Generate the code of an operated module: its traced methods with graft nodes in them, or a wrapper of its forward."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import fx, nn

from attn_surgeon.surgery.rewrite.assigned_forwards import FOLDED
from attn_surgeon.surgery.rewrite.binding import Binding, UntraceableError
from attn_surgeon.surgery.rewrite.edges import called_children, graft_node, second_input
from attn_surgeon.surgery.rewrite.expected_grafts import expected_of, require_expected
from attn_surgeon.surgery.rewrite.folding import fold, fused_forward
from attn_surgeon.surgery.rewrite.operated_modules import GUARD, Code, original_class
from attn_surgeon.surgery.rewrite.placement import Placement
from attn_surgeon.surgery.rewrite.signature import write_signature
from attn_surgeon.surgery.rewrite.trace import ShallowGraph, same_node_inlined, trace
from attn_surgeon.surgery.rewrite.wrapper import write_wrapper


def write_code(module: nn.Module, placements: Mapping[str, Placement]) -> Code:
    """Generate the methods that call a module's grafts; raise UntraceableError where a method cannot be rewritten.

    `placements` maps the key of each graft to its placement, in the order in which the grafts were made. Where grafts
    are recorded on the module, its forward also checks that none is lost.
    """
    sources: dict[str, str] = {}
    names: dict[str, Any] = {}
    children: dict[bool, set[str]] = {True: set(), False: set()}
    edges = {key: place for key, place in placements.items() if place.kind == "edge"}
    for method in dict.fromkeys(place.method for place in edges.values()):
        sources |= _rewritten(module, method, edges, names, children)
    wraps = {key: place for key, place in placements.items() if place.kind != "edge"}
    guard = [f"{GUARD}(self)"] if expected_of(module) is not None else []
    if guard:
        names[GUARD] = require_expected
    if wraps or (guard and "forward" not in sources):
        inner = "_inner_forward" if "forward" in sources else ""
        if inner:
            sources[inner] = _renamed(sources.pop("forward"), inner)
        forward = original_class(module).forward
        sources["forward"], more = write_wrapper(forward, inner or "_original.forward", wraps, guard)
        names |= more
    elif guard:
        sources["forward"] = _with_lines(sources["forward"], [f"    {line}" for line in guard])
    folded = _folded(module, edges, names)
    called = {mode: frozenset(names_called) for mode, names_called in children.items()}
    return Code(sources, names, frozenset(placements), called, folded)


def _folded(module: nn.Module, edges: Mapping[str, Placement], names: dict[str, Any]) -> dict[str, str]:
    """Return the source of a layer's fused forward with its grafts; nothing where a graft has no place in that."""
    binding = next((place.binding for place in edges.values() if place.method == "forward"), None)
    if binding is None or not (fused := fused_forward(module)):
        return {}
    graph = _grafted(_Traces(module, edges, training=False), "forward", edges).graph
    if not fold(module, graph, binding):
        return {}
    code = graph.python_code("self")
    names |= code.globals
    return {FOLDED + fused: _tidy(code.src, FOLDED + fused)}


def _rewritten(
    module: nn.Module,
    method: str,
    edges: Mapping[str, Placement],
    names: dict[str, Any],
    children: dict[bool, set[str]],
) -> dict[str, str]:
    """Rewrite one method; where its graph differs in train and eval mode, generate both and a method that dispatches.

    Tracing inlines the helper methods that the method calls, so the grafts placed in these are inserted too.
    """
    texts = {}
    bypasses = _bypasses(module, method, edges)
    traces_in = {training: _Traces(module, edges, training) for training in (False, True)}
    for place in edges.values():
        if place.method == method:
            _require_unambiguous(traces_in[False].of(method), traces_in[True].of(method), place.node)
    for training, traces in traces_in.items():
        shallow = _grafted(traces, method, edges)
        code = shallow.graph.python_code("self")
        names |= code.globals
        children[training] |= called_children(shallow.graph)
        texts[training] = _with_lines(_tidy(code.src, method), bypasses)
    if texts[False] == texts[True]:
        return {method: texts[False]}
    train, evaluate = f"_{method.strip('_')}_train", f"_{method.strip('_')}_eval"
    return {
        train: _renamed(texts[True], train),
        evaluate: _renamed(texts[False], evaluate),
        method: _dispatch(module, method, train, evaluate, names),
    }


def _grafted(traces: _Traces, method: str, edges: Mapping[str, Placement]) -> ShallowGraph:
    """Return the graph of a method with its grafts."""
    shallow = traces.of(method)
    # All nodes are found before the first graft is inserted, since inserting changes names and order.
    nodes = {key: traces.find(shallow, place.method, place.node) for key, place in edges.items()}
    seconds = {key: traces.second(shallow, place) for key, place in edges.items()}
    for key, node in nodes.items():
        if node is not None:
            graft_node(shallow.graph, key, edges[key], node, seconds[key]())
    return shallow


def _bypasses(module: nn.Module, method: str, edges: Mapping[str, Placement]) -> list[str]:
    """Return lines that call the original method where a flag is inverted and no graft is on that path.

    timm's `forward_head(x, pre_logits=True)`, for example, returns before the classifier and a graft before that.
    """
    places = [place for place in edges.values() if place.method == method]
    binding = places[0].binding
    signature = write_signature(getattr(original_class(module), method))
    return [
        line
        for name, value in binding.items()
        if isinstance(value, bool) and not _may_reach(module, method, {**binding, name: not value}, places)
        for line in (
            f"    if {name} is {not value}:",
            f"        return _original.{method}(self, {signature.passes})",
        )
    ]


def _may_reach(module: nn.Module, method: str, binding: Binding, places: Sequence[Placement]) -> bool:
    """Return whether a call with this binding may compute the node of one of the placements."""
    try:
        graphs = [trace(module, binding, method=method, training=training) for training in (False, True)]
    except UntraceableError:
        return True
    names = {re.sub(r"_\d+$", "", place.node) for place in places}
    return any(re.sub(r"_\d+$", "", name) in names for graph in graphs for name in graph.nodes)


def _with_lines(source: str, lines: Sequence[str]) -> str:
    """Return the source of a method with lines inserted at the start of its body."""
    head, _, body = source.partition("\n")
    return "\n".join([head, *lines, body])


class _Traces:
    """The graphs of one module's methods in one mode."""

    def __init__(self, module: nn.Module, edges: Mapping[str, Placement], training: bool) -> None:
        self.module, self.training = module, training
        self.bindings = {place.method: place.binding for place in edges.values()}
        self.graphs: dict[str, ShallowGraph] = {}

    def of(self, method: str) -> ShallowGraph:
        """Return the graph of a method, traced once."""
        if method not in self.graphs:
            self.graphs[method] = trace(self.module, self.bindings[method], method=method, training=self.training)
        return self.graphs[method]

    def find(self, shallow: ShallowGraph, method: str, name: str) -> fx.Node | None:
        """Return a node of a method by name, in the graph of that method or of a method that calls it."""
        node = self.of(method).nodes.get(name)
        if node is None:
            mode = "train" if self.training else "eval"
            raise UntraceableError(f"its forward has no node '{name}' in {mode} mode")
        return node if method == shallow.method else same_node_inlined(shallow, method, node)

    def second(self, shallow: ShallowGraph, place: Placement) -> Callable[[], tuple[fx.Node, ...]]:
        """Return a function that returns the second input of a block, called once the grafts before it are inserted."""
        name, _, argument = place.other.partition(":")
        node = self.find(shallow, place.method, name) if name else None
        return tuple if node is None else partial(second_input, node, argument)


def _require_unambiguous(evaluate: ShallowGraph, train: ShallowGraph, name: str) -> None:
    """Raise UntraceableError where a name such as `add_1` may be another node in train mode.

    Names count the nodes with the same target, so they only correspond where both modes have the same number of these.
    """
    node = evaluate.nodes.get(name)
    if node is not None and len(_same_target(evaluate, node)) != len(_same_target(train, node)):
        raise UntraceableError(f"its forward has another number of nodes like '{name}' in train mode")


def _same_target(shallow: ShallowGraph, node: fx.Node) -> list[fx.Node]:
    return [other for other in shallow.nodes.values() if (other.op, other.target) == (node.op, node.target)]


def _tidy(source: str, method: str) -> str:
    return _renamed(source.strip("\n") + "\n", method)


def _renamed(source: str, name: str) -> str:
    return re.sub(r"^def \w+\(", f"def {name}(", source, count=1, flags=re.MULTILINE)


def _dispatch(module: nn.Module, method: str, train: str, evaluate: str, names: dict[str, Any]) -> str:
    signature = write_signature(getattr(original_class(module), method))
    names |= signature.names
    return (
        f"def {method}(self, {signature.takes}):\n"
        f"    if self.training:\n"
        f"        return self.{train}({signature.passes})\n"
        f"    return self.{evaluate}({signature.passes})\n"
    )
