"""The sites of a network: every place where a tensor flows, under a stable name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor, fx, nn

from attn_surgeon.errors import ExampleError, SourceError, first_line
from attn_surgeon.graph import running
from attn_surgeon.graph.flow import flow
from attn_surgeon.graph.layouts import Feature, read_feature, vector_lengths
from attn_surgeon.graph.observe import Call, Observation, observe
from attn_surgeon.graph.operated import RESERVED, is_operated
from attn_surgeon.graph.placement import Placement, Side
from attn_surgeon.graph.routes import Routes, caller_nodes, is_sequential
from attn_surgeon.graph.trace import ShallowGraph, tensor_inputs


@dataclass(frozen=True)
class Site:
    """A place where a tensor flows: the output (and input) of one module or one function.

    `calls` counts how often it runs in one forward pass; `after` and `before` list the ways to operate there, the
    best first. `input` and `output` are None where no feature map flows.
    """

    name: str
    kind: Literal["module", "function"]
    type: str
    calls: int
    input: Feature | None
    output: Feature | None
    after: tuple[Placement, ...] = ()
    before: tuple[Placement, ...] = ()

    def feature(self, side: Side) -> Feature | None:
        """Give what flows after or before the site."""
        return self.output if side == "after" else self.input

    def placements(self, side: Side) -> tuple[Placement, ...]:
        """Give the ways to operate after or before the site."""
        return self.after if side == "after" else self.before


def find_sites(model: nn.Module, example: running.Example) -> list[Site]:
    """Find every site of a network, in the order of execution.

    `example` is one input, a tuple of arguments or a dict of keyword arguments. The model is run on it, and on a
    second size where it takes one; it is not changed. Raises ExampleError where it does not run on the example.
    """
    return survey(model, example).sites


@dataclass(frozen=True)
class Survey:
    """The sites of a network, the modules that were not called, and the run that showed them."""

    sites: list[Site]
    unused: tuple[str, ...]
    seen: Observation


def survey(model: nn.Module, example: running.Example) -> Survey:
    """Run a network on its example, and list its sites."""
    first = _observe_first_size(model, example)
    second = _observe_second_size(model, example)
    finder = _Finder(first, second)
    unused = tuple(path for path, _ in model.named_modules() if path not in first.calls)
    return Survey(list(finder.inside("")), unused, first)


def _observe_first_size(model: nn.Module, example: running.Example) -> Observation:
    if not isinstance(model, nn.Module) or type(model).__module__.startswith("torch.jit"):
        what = f"a {type(model).__name__} cannot be operated on"
        raise SourceError(what, "", "give the torch.nn.Module itself, before it is scripted")
    try:
        return observe(model, example)
    except Exception as error:
        shapes = ", ".join("×".join(map(str, tensor.shape)) for tensor in running.tensors(example))
        raise ExampleError(
            f"the network does not run on its example: {first_line(error)}",
            f"input {shapes or 'without tensors'}",
            "say what it takes with example=…, on the command line with --size and --mean",
        ) from error


def _observe_second_size(model: nn.Module, example: running.Example) -> Observation | None:
    for smaller in other_sizes(example):
        try:
            return observe(model, smaller)
        except Exception:  # a network of one size says so in its own way
            continue
    return None


def other_sizes(example: running.Example) -> list[running.Example]:
    """Offer the example at other sizes, nearest multiples of 32 first; only for a single (N, C, H, W) tensor."""
    if not isinstance(example, Tensor) or example.ndim != 4:
        return []
    height, width = example.shape[2:]
    shrunk = (max(32, height * 3 // 4 // 32 * 32), max(32, width * 3 // 4 // 32 * 32))
    sizes = [shrunk, (height * 2, width * 2)]
    return [
        nn.functional.interpolate(example, size=size, mode="nearest")
        for size in sizes
        if size[0] != height and size[1] != width
    ]


def image_size(example: running.Example) -> tuple[int, int] | None:
    """Give the (H, W) of the first image in an example."""
    first = next((tensor for tensor in running.tensors(example) if tensor.ndim == 4), None)
    return None if first is None else (int(first.shape[2]), int(first.shape[3]))


class _Finder:
    """Walk an observed network in the order of execution."""

    def __init__(self, first: Observation, second: Observation | None) -> None:
        self.first, self.second = first, second
        self.routes = Routes((first,) if second is None else (first, second))
        self.images = [size for seen in (first, second) if seen and (size := image_size(seen.example)) is not None]
        self.visited: set[str] = set()

    def inside(self, path: str) -> Iterator[Site]:
        """List the sites inside a module, and what it calls, as its first call ran."""
        module = self.first.module(path)
        shallow = None if is_sequential(module) else self.routes.graph(path)
        if isinstance(shallow, ShallowGraph):
            yield from self._in_graph(path, module, shallow)
        else:
            grafts = f"{path}.{RESERVED}.".removeprefix(".") if is_operated(module) else None
            for callee in self.first.callees.get(self.first.calls[path][0].index, ()):
                if grafts is None or not callee.path.startswith(grafts):
                    yield from self._module(callee, path, [])

    def _in_graph(self, path: str, module: nn.Module, shallow: ShallowGraph) -> Iterator[Site]:
        values = self._values(path, module, shallow)
        for name, node in shallow.nodes.items():
            full = f"{path}.{name}".removeprefix(".")
            if node.op == "call_module":
                callee = module.get_submodule(str(node.target))
                nodes = caller_nodes(shallow, module, callee)
                call = self._callee(path, callee)
                if call is None:
                    continue
                if len(nodes) == 1 or any(True for _ in callee.children()):
                    yield from self._module(call, path, nodes)
                    continue
            yield from self._node(full, path, node, values)

    def _module(self, call: Call, caller: str, nodes: list[fx.Node]) -> Iterator[Site]:
        if call.path in self.visited:
            return
        self.visited.add(call.path)
        yield from self.inside(call.path)
        module = self.first.module(call.path)
        node = nodes[0] if len(nodes) == 1 else None
        twin = self._twin(call)
        vectors = vector_lengths(module) or vector_lengths(self.first.module(caller))
        yield Site(
            call.path,
            "module",
            type(module).__name__,
            len(self.first.calls[call.path]),
            self._feature(_first(call), twin and _first(twin), vectors),
            self._feature(call.output, twin and twin.output, vectors),
            self.routes.of_module(call.path, caller, node, "after"),
            self.routes.of_module(call.path, caller, node, "before"),
        )

    def _node(self, full: str, path: str, node: fx.Node, values: list[dict[fx.Node, Any]]) -> Iterator[Site]:
        outputs = [table.get(node) for table in values]
        if not isinstance(outputs[0], Tensor):
            return
        sources = tensor_inputs(node)
        inputs = [table.get(sources[0]) if sources else None for table in values]
        vectors = vector_lengths(self.first.module(path))
        yield Site(
            full,
            "module" if node.op == "call_module" else "function",
            _type(self.first.module(path), node),
            len(self.first.calls[path]),
            self._feature(inputs[0], inputs[-1] if len(inputs) > 1 else None, vectors),
            self._feature(outputs[0], outputs[-1] if len(outputs) > 1 else None, vectors),
            self.routes.of_node(path, node, "after"),
            self.routes.of_node(path, node, "before") if sources else (),
        )

    def _values(self, path: str, module: nn.Module, shallow: ShallowGraph) -> list[dict[fx.Node, Any]]:
        return [
            flow(module, shallow, seen.calls[path][0], seen)
            for seen in (self.first, self.second)
            if seen is not None and path in seen.calls
        ]

    def _callee(self, path: str, callee: nn.Module) -> Call | None:
        calls = self.first.callees.get(self.first.calls[path][0].index, ())
        return next((call for call in calls if self.first.module(call.path) is callee), None)

    def _twin(self, call: Call) -> Call | None:
        """Find the first call of the same module in the run at the second size."""
        return self.second.calls[call.path][0] if self.second and call.path in self.second.calls else None

    def _feature(self, value: Any, twin: Any, vectors: Counter[int]) -> Feature | None:
        if not isinstance(value, Tensor):
            return None
        return read_feature(
            value.shape,
            str(value.dtype).removeprefix("torch."),
            probe=twin.shape if isinstance(twin, Tensor) else None,
            vectors=vectors,
            images=self.images,
        )


def _type(owner: nn.Module, node: fx.Node) -> str:
    """Name what a node calls: a module's class, a function, a method."""
    if node.op == "call_module":
        return type(owner.get_submodule(str(node.target))).__name__
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", "function")


def _first(call: Call) -> Any:
    """Give the first tensor a call was made with."""
    return next(iter(running.tensors([*call.args, *call.kwargs.values()])), None)
