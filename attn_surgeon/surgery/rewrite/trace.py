"""Trace one method of one module by `torch.fx`, with the modules that it calls as leaves: a shallow graph.

Tracing a whole network fails for many networks, and fixes every branch in them. A graft only needs the graph of the one
forward in which its tensor is computed.
"""

from __future__ import annotations

import inspect
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from torch import fx, nn
from torch.fx._symbolic_trace import _autowrap_check, _patch_wrapped_functions, _Patcher

from attn_surgeon.errors import first_line
from attn_surgeon.surgery.rewrite.binding import (
    PREAMBLE,
    TENSOR,
    Binding,
    ContainerSpec,
    UntraceableError,
    bind_calls,
    helper_methods,
    require,
    require_container,
    take,
)
from attn_surgeon.surgery.rewrite.inplace import USUAL_NAMES, InPlaceProxy
from attn_surgeon.surgery.rewrite.operated_modules import original_class
from attn_surgeon.surgery.rewrite.stand_in import stand_in, tensors_of


@dataclass(frozen=True)
class ShallowGraph:
    """The graph of one method of one module.

    Args:
        method: the name of the method.
        binding: the values of its parameters that are not tensors.
        graph: the graph.
        nodes: its nodes, by the names that torchvision's feature extraction gives them.
        helpers: the bindings of the helper methods that it calls once.
        aliases: the names in `nodes` of modules that a GraphModule was traced through, which are not nodes themselves.
    """

    method: str
    binding: Binding
    graph: fx.Graph
    nodes: dict[str, fx.Node]
    helpers: dict[str, Binding]
    aliases: frozenset[str] = frozenset()

    def name_of(self, node: fx.Node) -> str:
        """Return the name of a node as in torchvision's feature extraction, relative to the module."""
        return next(name for name, other in self.nodes.items() if other is node)


def trace(module: nn.Module, binding: Binding, *, method: str = "forward", training: bool = False) -> ShallowGraph:
    """Trace one method of a module in train or eval mode; raise UntraceableError with the reason where that fails."""
    tracer = _ShallowTracer(binding, method)
    try:
        with _no_side_effects(module):
            graph = tracer.trace_shallow(module, training)
    except UntraceableError:
        raise
    except Exception as error:  # user code can raise anything when it gets proxies
        raise UntraceableError(f"its forward does not trace ({type(error).__name__}: {first_line(error)})") from error
    if any(name.startswith("_tensor") for name in vars(tracer.root).keys() - vars(module).keys()):
        raise UntraceableError("its forward creates a constant tensor, which a trace would make an attribute")
    return ShallowGraph(method, binding, graph, name_nodes(graph), tracer.helper_bindings())


def same_node_inlined(shallow: ShallowGraph, method: str, node: fx.Node) -> fx.Node | None:
    """Return the node of a caller's graph that is `node` in the graph of the helper `method`, which tracing inlines."""
    return next((other for other in shallow.nodes.values() if _same_origin(other, node, method)), None)


def _same_origin(left: fx.Node, right: fx.Node, method: str) -> bool:
    same_method = left.meta["method"] == right.meta["method"] == method
    same_position = left.meta["ordinal"] == right.meta["ordinal"]
    return same_method and same_position and (left.op, left.target) == (right.op, right.target)


_lock = threading.Lock()


class _ShallowTracer(fx.Tracer):
    """Trace one method; `meta` of every node has the helper method that created it, and its position in that."""

    def __init__(self, binding: Binding, method: str) -> None:
        super().__init__()
        self.binding, self.traced_func_name = binding, method
        self.frames = [_Frame(method)]
        self.helper_calls: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}
        self.helper_functions: dict[str, Callable[..., Any]] = {}
        self.parameters: dict[str, fx.Proxy] = {}
        self.stand_ins: dict[int, Any] = {}

    def trace_shallow(self, module: nn.Module, training: bool) -> fx.Graph:
        """Trace the method on a stand-in for the module, in train or eval mode.

        Functions registered by `torch.fx.wrap`, and those that fx wraps itself, such as `math.sqrt`, are patched as in
        `fx.Tracer.trace`. These patches only act on proxies, so other threads are not affected; the lock orders them.
        """
        self.module = module
        self.root: Any = stand_in(module, "", self)
        self.root.training = training
        self.graph = fx.Graph(tracer_cls=type(self))
        self.tensor_attrs, self.submodule_paths = {}, None
        function = getattr(type(self.root), self.traced_func_name)
        run, _ = self.create_args_for_root(function, is_module=True)
        with _lock, _Patcher() as patcher:
            _patch_wrapped_functions(patcher)
            for names in (function.__globals__, *map(vars, self._autowrap_search)):
                _autowrap_check(patcher, names, self._autowrap_function_ids)
            self.create_node("output", "output", (self.create_arg(run()),), {})
        return self.graph

    def call_leaf(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Proxy:
        """Return the proxy of a call of a descendant."""
        return self.create_proxy("call_module", path, args, kwargs)

    def parameter(self, path: str, value: nn.Parameter) -> fx.Proxy:
        """Return the proxy of a parameter; each has one node."""
        if path not in self.parameters:
            self.parameters[path] = self.create_proxy("get_attr", path, (), {})
        return self.parameters[path]

    def path_of(self, module: nn.Module) -> str:
        """Return the first path of a descendant; an empty text for other modules."""
        return self._paths.get(id(module), "")

    @cached_property
    def _paths(self) -> dict[int, str]:
        return {id(module): path for path, module in self.module.named_modules()}

    @cached_property
    def _tensors(self) -> dict[int, str]:
        return {id(tensor): path for path, tensor in tensors_of(self.module)}

    def create_arg(self, a: Any) -> Any:
        """Return the argument of a node; a tensor of the module becomes a `get_attr` node."""
        if isinstance(a, torch.Tensor) and id(a) in self._tensors:
            return self.create_node("get_attr", self._tensors[id(a)], (), {})
        return super().create_arg(a)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return InPlaceProxy(node, self)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Create a placeholder for every parameter, and pass proxies for tensors and constants for the others."""
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
        self._watch_helpers()
        return lambda: root_fn(self.root, *positional, **keywords), []

    def _argument(self, parameter: inspect.Parameter) -> Any:
        default = () if parameter.default is inspect.Parameter.empty else (parameter.default,)
        if default and not isinstance(default[0], (type(None), bool, int, float, str)):
            raise UntraceableError(f"the default of its argument '{parameter.name}' cannot be written as code")
        proxy = self.create_proxy("placeholder", parameter.name, default, {})
        constant = self.binding[parameter.name]
        if constant == TENSOR:
            return proxy
        if isinstance(constant, ContainerSpec):
            guard = (parameter.name, proxy, constant.kind, constant.keys)
            self.create_proxy("call_function", require_container, guard, {})
            return constant.build(lambda key: self.create_proxy("call_function", take, (proxy, key), {}))
        self.create_proxy("call_function", require, (parameter.name, proxy, constant), {})
        return constant

    def _watch_helpers(self) -> None:
        """Record the calls of the module's helper methods, those that were assigned to the object excepted."""
        for name, helper in helper_methods(original_class(self.module)).items():
            if name not in vars(self.module):
                self.helper_functions[name] = helper
                vars(self.root)[name] = partial(self._call_helper, name, helper)

    def _call_helper(self, name: str, helper: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.helper_calls.setdefault(name, []).append((args, kwargs))
        self.frames.append(_Frame(name))
        try:
            return helper(self.root, *args, **kwargs)
        finally:
            self.frames.pop()

    def create_node(self, kind: str, *args: Any, **kwargs: Any) -> fx.Node:
        node = super().create_node(kind, *args, **kwargs)
        node.meta["method"] = self.frames[-1].method
        node.meta["ordinal"] = self.frames[-1].count
        for frame in self.frames:
            # get_attr nodes are not counted: each parameter has one, at its first use in the whole trace
            frame.count += kind not in ("placeholder", "output", "get_attr") and node.target not in PREAMBLE
        return node

    def helper_bindings(self) -> dict[str, Binding]:
        """Return the bindings of the helper methods that were called once, which can be rewritten by themselves."""
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
    """A helper method under way, and the number of nodes that it has created so far."""

    method: str
    count: int = field(default=0)


@contextmanager
def _no_side_effects(module: nn.Module) -> Iterator[None]:
    """Raise UntraceableError where tracing draws random numbers or changes a buffer, because no node does that.

    The random number generators and the buffers are restored.
    """
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    buffers = [(buffer, buffer._version, buffer.clone()) for buffer in module.buffers(recurse=False)]
    try:
        yield
        if not torch.equal(torch.get_rng_state(), torch_state) or random.getstate() != python_state:
            raise UntraceableError("its forward draws random numbers, which a trace would make constants")
        if any(buffer._version != version for buffer, version, _ in buffers):
            raise UntraceableError("its forward changes a buffer, which a trace would not do")
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
        for buffer, version, value in buffers:
            if buffer._version != version:
                buffer.data.copy_(value)


def _base_name(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    return USUAL_NAMES.get(node.target) or re.sub(r"_\d+$", "", node.name)


def name_nodes(graph: fx.Graph) -> dict[str, fx.Node]:
    """Return the nodes of a graph by what they call, with the suffixes _1, _2, … for repeated names."""
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
