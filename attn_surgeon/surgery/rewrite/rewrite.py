"""Write an operated module's code: its own graph with the grafts in it, or a wrapper around its own forward."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import fx, nn

from attn_surgeon.surgery.rewrite.binding import Binding, UntraceableError
from attn_surgeon.surgery.rewrite.edges import called_children, graft_node, second_input
from attn_surgeon.surgery.rewrite.expected import expected_of, require_expected
from attn_surgeon.surgery.rewrite.operated import GUARD, Code, original_class
from attn_surgeon.surgery.rewrite.placement import Placement
from attn_surgeon.surgery.rewrite.signature import write_signature
from attn_surgeon.surgery.rewrite.trace import ShallowGraph, same_node_inlined, trace
from attn_surgeon.surgery.rewrite.wrapper import write_wrapper


def write_code(module: nn.Module, placements: Mapping[str, Placement]) -> Code:
    """Return the methods that send a module's tensors through its grafts; raise UntraceableError where it cannot.

    `placements` maps each graft's key in the module to where it is made, in the order the grafts were made. The
    forward of a network that was operated on also looks after all its grafts.
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
    return Code(sources, names, frozenset(placements), {mode: frozenset(called) for mode, called in children.items()})


def _rewritten(
    module: nn.Module,
    method: str,
    edges: Mapping[str, Placement],
    names: dict[str, Any],
    children: dict[bool, set[str]],
) -> dict[str, str]:
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
                graft_node(shallow.graph, key, edges[key], node, seconds[key]())
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


def _bypasses(module: nn.Module, method: str, edges: Mapping[str, Placement]) -> list[str]:
    """Send calls with a flag the other way round to the method as written, where no graft is on that path.

    timm's `forward_head(x, pre_logits=True)` stops before the classifier, and so before a graft in front of it.
    """
    own = [place for place in edges.values() if place.method == method]
    binding = own[0].binding
    signature = write_signature(getattr(original_class(module), method))
    return [
        line
        for name, value in binding.items()
        if isinstance(value, bool) and not _passes(module, method, {**binding, name: not value}, own)
        for line in (
            f"    if {name} is {not value}:",
            f"        return _original.{method}(self, {signature.passes})",
        )
    ]


def _passes(module: nn.Module, method: str, binding: Binding, own: Sequence[Placement]) -> bool:
    """Return whether a call with this binding may meet one of the placements' nodes."""
    try:
        graphs = [trace(module, binding, method=method, training=training) for training in (False, True)]
    except UntraceableError:
        return True
    wanted = {re.sub(r"_\d+$", "", place.node) for place in own}
    return any(re.sub(r"_\d+$", "", name) in wanted for graph in graphs for name in graph.nodes)


def _with_lines(source: str, lines: Sequence[str]) -> str:
    """Insert lines at the head of a method's body."""
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
        """Return a method's node by name in a graph: that method's own, or one of a method that calls it."""
        own = self.of(method).nodes.get(name)
        if own is None:
            raise UntraceableError(f"its forward has no node '{name}' in every mode")
        return own if method == shallow.method else same_node_inlined(shallow, method, own)

    def second(self, shallow: ShallowGraph, place: Placement) -> Callable[[], tuple[fx.Node, ...]]:
        """Return the node whose value a block of two inputs takes as its second, after the grafts made there so far."""
        name, _, argument = place.other.partition(":")
        node = self.find(shallow, place.method, name) if name else None
        return tuple if node is None else partial(second_input, node, argument)


def _require_same_place(evaluate: ShallowGraph, train: ShallowGraph, name: str) -> None:
    """Refuse a node whose name may mean another place in train mode, because it counts otherwise there."""
    node = evaluate.nodes.get(name)
    if node is not None and len(_likes(evaluate, node)) != len(_likes(train, node)):
        raise UntraceableError(f"its forward has another number of nodes like '{name}' in train mode")


def _likes(shallow: ShallowGraph, node: fx.Node) -> list[fx.Node]:
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
