"""Shallow graphs: one module's own forward, with the modules it calls as leaves.

Tracing a whole network fails on many and freezes every branch in it. A single module's forward is short, and a
graft only ever needs the one graph its edge lives in.
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
    Several,
    UntraceableError,
    bind_calls,
    own_methods,
    require,
    require_several,
    take,
)
from attn_surgeon.surgery.rewrite.inplace import USUAL_NAMES, InPlaceProxy
from attn_surgeon.surgery.rewrite.operated import original_class
from attn_surgeon.surgery.rewrite.stand_in import stand_in, tensors_of


@dataclass(frozen=True)
class ShallowGraph:
    """The graph of one method of one module, with the names people know its nodes by.

    `aliases` are names of modules that a graph was traced through, each for the node that its output is.
    """

    method: str
    binding: Binding
    graph: fx.Graph
    nodes: dict[str, fx.Node]
    helpers: dict[str, Binding]
    aliases: frozenset[str] = frozenset()

    def name_of(self, node: fx.Node) -> str:
        """Return a node's name as torchvision's feature extraction writes it, relative to the module."""
        return next(name for name, other in self.nodes.items() if other is node)


def trace(module: nn.Module, binding: Binding, *, method: str = "forward", training: bool = False) -> ShallowGraph:
    """Trace one method of a module in one mode; raise UntraceableError with the reason where it cannot be."""
    tracer = _ShallowTracer(binding, method)
    try:
        with _no_side_effects(module):
            graph = tracer.trace_shallow(module, training)
    except UntraceableError:
        raise
    except Exception as error:  # user code under trace can raise anything
        raise UntraceableError(f"its forward does not trace ({type(error).__name__}: {first_line(error)})") from error
    if any(name.startswith("_tensor") for name in vars(tracer.root).keys() - vars(module).keys()):
        raise UntraceableError("its forward makes a constant tensor, which a trace would freeze")
    return ShallowGraph(method, binding, graph, name_nodes(graph), tracer.helper_bindings())


def same_node_inlined(shallow: ShallowGraph, method: str, node: fx.Node) -> fx.Node | None:
    """Find, in the graph of a method that calls the helper `method`, what is `node` in the helper's own graph."""
    return next((other for other in shallow.nodes.values() if _same_origin(other, node, method)), None)


def _same_origin(one: fx.Node, other: fx.Node, method: str) -> bool:
    inside = one.meta["method"] == other.meta["method"] == method and one.meta["ordinal"] == other.meta["ordinal"]
    return inside and (one.op, one.target) == (other.op, other.target)


_lock = threading.Lock()


class _ShallowTracer(fx.Tracer):
    """Trace one method; note for every node which helper method of the module made it."""

    def __init__(self, binding: Binding, method: str) -> None:
        super().__init__()
        self.binding, self.traced_func_name = binding, method
        self.frames = [_Frame(method)]
        self.helper_calls: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {}
        self.helper_functions: dict[str, Callable[..., Any]] = {}
        self.parameters: dict[str, fx.Proxy] = {}
        self.stand_ins: dict[int, Any] = {}

    def trace_shallow(self, module: nn.Module, training: bool) -> fx.Graph:
        """Trace a module's method on a stand-in for it, in one mode.

        What `torch.fx.wrap` and fx itself take for leaves, such as `math.sqrt`, is patched as fx does: these patches
        only act on traced values, so other threads run on. The lock keeps them in order.
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
            for names in (function.__globals__, *(vars(each) for each in self._autowrap_search)):
                _autowrap_check(patcher, names, self._autowrap_function_ids)
            self.create_node("output", "output", (self.create_arg(run()),), {})
        return self.graph

    def call_leaf(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> fx.Proxy:
        """Return the node of a call of a descendant."""
        return self.create_proxy("call_module", path, args, kwargs)

    def parameter(self, path: str, value: nn.Parameter) -> fx.Proxy:
        """Return the node of a parameter, one for each."""
        if path not in self.parameters:
            self.parameters[path] = self.create_proxy("get_attr", path, (), {})
        return self.parameters[path]

    def path_of(self, module: nn.Module) -> str:
        """Return the path of a descendant, the first it has; nothing for a module that is none."""
        return self._paths.get(id(module), "")

    @cached_property
    def _paths(self) -> dict[int, str]:
        return {id(module): path for path, module in self.module.named_modules()}

    @cached_property
    def _tensors(self) -> dict[int, str]:
        return {id(tensor): path for path, tensor in tensors_of(self.module)}

    def create_arg(self, a: Any) -> Any:
        """Return what stands for an argument; a tensor of the module's is the attribute it is."""
        if isinstance(a, torch.Tensor) and id(a) in self._tensors:
            return self.create_node("get_attr", self._tensors[id(a)], (), {})
        return super().create_arg(a)

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return InPlaceProxy(node, self)

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Add a placeholder for every parameter, and call the function with a proxy for the tensors among them only."""
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
        if isinstance(constant, Several):
            guard = (parameter.name, proxy, constant.kind, constant.keys)
            self.create_proxy("call_function", require_several, guard, {})
            return constant.filled(lambda key: self.create_proxy("call_function", take, (proxy, key), {}))
        self.create_proxy("call_function", require, (parameter.name, proxy, constant), {})
        return constant

    def _watch_helpers(self) -> None:
        """Record the calls of the module's helper methods, except those that the user set on the object."""
        for name, helper in own_methods(original_class(self.module)).items():
            if name not in vars(self.module):
                self.helper_functions[name] = helper
                vars(self.root)[name] = partial(self._help, name, helper)

    def _help(self, name: str, helper: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
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


def _base_name(node: fx.Node) -> str:
    if node.op == "call_module":
        return str(node.target)
    return USUAL_NAMES.get(node.target) or re.sub(r"_\d+$", "", node.name)


def name_nodes(graph: fx.Graph) -> dict[str, fx.Node]:
    """Return a graph's nodes by what they call, repeated ones with _1, _2 … in the order of execution."""
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
