"""Shallow graphs: one module's own forward, with the modules it calls as leaves.

Tracing a whole network fails on many and freezes every branch in it. A single module's forward is short, and a
graft only ever needs the one graph its edge lives in.
"""

from __future__ import annotations

import inspect
import itertools
import random
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from attn_surgeon.errors import first_line
from attn_surgeon.graph.forwards.binding import (
    PREAMBLE,
    TENSOR,
    Binding,
    Several,
    UntraceableError,
    bind_calls,
    own_methods,
    require,
    require_several,
    take,
)
from attn_surgeon.graph.forwards.inplace import USUAL_NAMES, InPlaceProxy
from attn_surgeon.graph.forwards.operated import as_original


@dataclass(frozen=True)
class ShallowGraph:
    """The graph of one method of one module, with the names people know its nodes by."""

    method: str
    binding: Binding
    graph: fx.Graph
    nodes: dict[str, fx.Node]
    helpers: dict[str, Binding]

    def name_of(self, node: fx.Node) -> str:
        """Name a node as torchvision's feature extraction does, relative to the module."""
        return next(name for name, other in self.nodes.items() if other is node)


def trace(module: nn.Module, binding: Binding, *, method: str = "forward", training: bool = False) -> ShallowGraph:
    """Trace one method of a module in one mode; raise UntraceableError with the reason where it cannot be."""
    tracer = _ShallowTracer(binding, method)
    try:
        with as_original(module), _untouched(module), _no_side_effects(module), _training_flag(module, training):
            own = set(vars(module))
            graph = tracer.trace(module)
            constants = [name for name in vars(module) if name not in own and name.startswith("_tensor")]
    except UntraceableError:
        raise
    except Exception as error:  # user code under trace can raise anything
        raise UntraceableError(f"its forward does not trace ({type(error).__name__}: {first_line(error)})") from error
    if constants:
        raise UntraceableError("its forward makes a constant tensor, which a trace would freeze")
    graph.output_node().type = None  # an annotation may name what the generated code cannot see
    return ShallowGraph(method, binding, graph, _names(graph), tracer.helper_bindings())


def same_node_inlined(shallow: ShallowGraph, method: str, node: fx.Node) -> fx.Node | None:
    """Find, in the graph of a method that calls the helper `method`, what is `node` in the helper's own graph."""
    return next((other for other in shallow.nodes.values() if _same_origin(other, node, method)), None)


def _same_origin(one: fx.Node, other: fx.Node, method: str) -> bool:
    inside = one.meta["method"] == other.meta["method"] == method and one.meta["ordinal"] == other.meta["ordinal"]
    return inside and (one.op, one.target) == (other.op, other.target)


def node_inputs(node: fx.Node) -> list[fx.Node]:
    """List the nodes that flow into a node, in the order of its arguments and as often as they do."""
    found: list[fx.Node] = []
    fx.map_arg((node.args, node.kwargs), found.append)
    return found


def replace_input(node: fx.Node, index: int, new: fx.Node) -> None:
    """Let another node flow into `node` as its input of this index."""
    count = itertools.count()
    replaced = fx.map_arg((node.args, node.kwargs), lambda old: new if next(count) == index else old)
    node.args, node.kwargs = replaced


class _ShallowTracer(fx.Tracer):
    """Trace one method; note for every node which helper method of the module made it."""

    def __init__(self, binding: Binding, method: str) -> None:
        super().__init__()
        self.binding, self.traced_func_name = binding, method
        self.frames = [_Frame(method)]
        self.helper_calls: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}
        self.helper_functions: dict[str, Callable[..., Any]] = {}

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return InPlaceProxy(node, self)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Give every parameter a placeholder, and the function a stand-in for the tensors among them only."""
        positional: list[Any] = []
        keywords: dict[str, Any] = {}
        for parameter in list(inspect.signature(root_fn).parameters.values())[1:]:
            if parameter.name not in self.binding:
                continue
            value = self._argument(parameter)
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY:
                keywords[parameter.name] = value
            else:
                positional.append(value)
        with_helpers = self._watch_helpers(root_fn)
        return lambda: with_helpers(self.root, *positional, **keywords), []

    def _argument(self, parameter: inspect.Parameter) -> Any:
        default = () if parameter.default is inspect.Parameter.empty else (parameter.default,)
        if default and not isinstance(default[0], (type(None), bool, int, float, str)):
            raise UntraceableError(f"the default of its argument '{parameter.name}' cannot be written as code")
        proxy = self.create_proxy("placeholder", parameter.name, default, {})
        constant = self.binding[parameter.name]
        if constant == TENSOR:
            return proxy
        if isinstance(constant, Several):
            guard = (parameter.name, proxy, constant.kind, constant.keys)
            self.create_proxy("call_function", require_several, guard, {})
            return constant.filled(lambda key: self.create_proxy("call_function", take, (proxy, key), {}))
        self.create_proxy("call_function", require, (parameter.name, proxy, constant), {})
        return constant

    def _watch_helpers(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def watched(root: nn.Module, *args: Any, **kwargs: Any) -> Any:
            with ExitStack() as stack:
                for name, helper in own_methods(root).items():
                    stack.enter_context(self._watch_helper(root, name, helper))
                return function(root, *args, **kwargs)

        return watched

    @contextmanager
    def _watch_helper(self, root: nn.Module, name: str, helper: Callable[..., Any]) -> Iterator[None]:
        def recorded(*args: Any, **kwargs: Any) -> Any:
            self.helper_calls.setdefault(name, []).append((args, kwargs))
            self.frames.append(_Frame(name))
            try:
                return helper(root, *args, **kwargs)
            finally:
                self.frames.pop()

        if name in vars(root):  # the user's own override of the method on this very object
            yield
            return
        self.helper_functions[name] = helper
        vars(root)[name] = recorded
        try:
            yield
        finally:
            del vars(root)[name]

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        node.meta["method"] = self.frames[-1].method
        node.meta["ordinal"] = self.frames[-1].count
        for frame in self.frames:
            # fx fetches a parameter once, so where its get_attr node falls depends on what ran before
            frame.count += kind not in ("placeholder", "output", "get_attr") and node.target not in PREAMBLE
        return node

    def helper_bindings(self) -> dict[str, Binding]:
        """Bind the helper methods that were called exactly once, so that they can be rewritten on their own."""
        bindings = {}
        for name, calls in self.helper_calls.items():
            if len(calls) == 1:
                try:
                    bindings[name] = bind_calls(self.helper_functions[name], calls)
                except UntraceableError:
                    continue
        return bindings


@dataclass
class _Frame:
    method: str
    count: int = field(default=0)


@contextmanager
def _untouched(module: nn.Module) -> Iterator[None]:
    """Put back what tracing leaves on the module: fx stores constants there, and forwards may count calls."""
    before = dict(vars(module))
    tables = {name: dict(before[name]) for name in ("_parameters", "_buffers", "_modules")}
    try:
        yield
    finally:
        vars(module).clear()
        vars(module).update(before)
        for name, table in tables.items():
            vars(module)[name].clear()
            vars(module)[name].update(table)


@contextmanager
def _no_side_effects(module: nn.Module) -> Iterator[None]:
    """Refuse a forward that draws random numbers or changes a buffer as it is traced, for no node stands for that.

    The streams and the buffers are put back.
    """
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in module.buffers(recurse=False)]
    try:
        yield
        if not torch.equal(torch.get_rng_state(), torch_state) or random.getstate() != python_state:
            raise UntraceableError("its forward draws random numbers, which a trace would freeze")
        if any(buffer._version != version for buffer, version, _ in buffers):
            raise UntraceableError("its forward changes a buffer, which a trace would lose")
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        for buffer, version, value in buffers:
            if buffer._version != version:
                buffer.data.copy_(value)


@contextmanager
def _training_flag(module: nn.Module, training: bool) -> Iterator[None]:
    flag, module.training = module.training, training
    try:
        yield
    finally:
        module.training = flag


def _base_name(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    return USUAL_NAMES.get(node.target) or re.sub(r"_\d+$", "", node.name)


def _names(graph: fx.Graph) -> dict[str, fx.Node]:
    """Name nodes by what they call, repeated ones with _1, _2 … in the order of execution."""
    children = {str(node.target) for node in graph.nodes if node.op == "call_module"}
    names: dict[str, fx.Node] = {}
    for node in graph.nodes:
        if node.op not in ("call_module", "call_function", "call_method") or node.target in PREAMBLE:
            continue
        base = _base_name(node)
        count, name = 0, base
        while name in names or (name in children and (count or node.op != "call_module")):
            count += 1
            name = f"{base}_{count}"
        names[name] = node
    return names
