"""Find the sites of an observed network, module by module in the order of execution."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, fx, nn

from attn_surgeon.surgery import running
from attn_surgeon.surgery.observe.flow import flow
from attn_surgeon.surgery.observe.observe import Call, Observation
from attn_surgeon.surgery.rewrite.edges import node_inputs
from attn_surgeon.surgery.rewrite.output_items import list_items
from attn_surgeon.surgery.rewrite.trace import ShallowGraph
from attn_surgeon.surgery.sites.example_sizes import image_size
from attn_surgeon.surgery.sites.layouts import Feature, read_feature, vector_lengths
from attn_surgeon.surgery.sites.placements import PlacementFinder, caller_nodes, is_sequential
from attn_surgeon.surgery.sites.site import Site


class Finder:
    """Finds sites, and records the tensors that flow there.

    Attributes:
        outputs: tensors with the sites that they flow after.
        module_inputs: tensors with the modules that they flow into.
        function_inputs: the output of a function, one of its inputs, and the site of that input.
    """

    def __init__(self, first: Observation, second: Observation | None) -> None:
        self.first, self.second = first, second
        self.placements = PlacementFinder((first,) if second is None else (first, second))
        self.images = [size for seen in (first, second) if seen and (size := image_size(seen.example)) is not None]
        self.grids = [_grids(seen) for seen in (first, second) if seen is not None]
        self.visited: set[str] = set()
        self.outputs: list[tuple[Tensor, Site]] = []
        self.module_inputs: list[tuple[Tensor, Site]] = []
        self.function_inputs: list[tuple[Tensor, Tensor, Site]] = []

    def inside(self, path: str) -> Iterator[Site]:
        """Yield the sites inside a module, in the order of its first call."""
        module = self.first.module(path)
        shallow = None if is_sequential(module) else self.placements.graph(path)
        if isinstance(shallow, ShallowGraph):
            yield from self._in_graph(path, module, shallow)
        else:
            for callee in self.first.callees.get(self.first.calls[path][0].index, ()):
                yield from self._module(callee, path, [])

    def _in_graph(self, path: str, module: nn.Module, shallow: ShallowGraph) -> Iterator[Site]:
        values = self._values(path, module, shallow)
        for name, node in shallow.nodes.items():
            full = f"{path}.{name}".removeprefix(".")
            if node.op == "call_module" and name not in shallow.aliases:
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
        resized = self._resized_call(call)
        vectors = vector_lengths(module) or vector_lengths(self.first.module(caller))
        calls = self.first.calls[call.path]
        input_feature = self._feature(_first_tensor(call), resized and _first_tensor(resized), vectors)
        output_feature = self._feature(call.output, resized and resized.output, vectors)
        channels = {
            "after": _channel_counts([one.output for one in calls], output_feature),
            "before": _channel_counts(map(_first_tensor, calls), input_feature),
        }
        site = Site(
            call.path,
            "module",
            type(module).__name__,
            len(calls),
            input_feature,
            output_feature,
            self.placements.at_module(call.path, caller, node, "after") if len(channels["after"]) < 2 else (),
            self.placements.at_module(call.path, caller, node, "before") if len(channels["before"]) < 2 else (),
            obstacle=_obstacle(channels["after"]) or _obstacle(channels["before"]),
            returned=tuple(tuple(tensor.shape) for tensor in running.tensors(call.output)),
        )
        self.outputs += [(one.output, site) for one in calls if isinstance(one.output, Tensor)]
        self.module_inputs += [(given, site) for one in calls if isinstance(given := _first_tensor(one), Tensor)]
        yield site
        resized_items = dict(list_items(resized.output)) if resized else {}
        for key, value in list_items(call.output):
            after = self.placements.at_item(call.path, caller, node, key)
            feature = self._feature(value, resized_items.get(key), vectors)
            item = Site(f"{call.path}:{key}", "module", site.type, len(calls), None, feature, after)
            self.outputs += [(value, item) for other in calls for value in _items_named(other.output, key)]
            yield item

    def _node(self, full: str, path: str, node: fx.Node, values: list[dict[fx.Node, Any]]) -> Iterator[Site]:
        outputs = [table.get(node) for table in values]
        vectors = vector_lengths(self.first.module(path))
        place = _Place(full, path, node, _type(self.first.module(path), node), vectors)
        inputs = _tensor_inputs(node, values)
        if isinstance(outputs[0], Tensor):
            yield self._node_site(place, outputs, inputs)
            if len(inputs) > 1:
                yield from (self._input(place, key, given, outputs[0]) for key, given in enumerate(inputs))
            return
        items = [dict(list_items(output)) for output in outputs]
        for key in items[0]:
            yield self._item(place, key, [table.get(key) for table in items])

    def _node_site(self, place: _Place, outputs: list[Any], inputs: list[_Input]) -> Site:
        site = Site(
            place.name,
            "module" if place.node.op == "call_module" else "function",
            place.type,
            len(self.first.calls[place.owner]),
            self._feature(inputs[0].value, inputs[0].resized, place.vectors) if inputs else None,
            self._feature(outputs[0], outputs[-1] if len(outputs) > 1 else None, place.vectors),
            self.placements.at_node(place.owner, place.node, "after"),
            self.placements.at_node(place.owner, place.node, "before", argument=inputs[0].argument) if inputs else (),
            returned=(tuple(outputs[0].shape),),
        )
        self.outputs.append((outputs[0], site))
        return site

    def _item(self, place: _Place, key: str, values: list[Any]) -> Site:
        """Build the site of one of several tensors that a function returns."""
        feature = self._feature(values[0], values[-1] if len(values) > 1 else None, place.vectors)
        after = self.placements.at_node(place.owner, place.node, "after", item=key)
        runs = len(self.first.calls[place.owner])
        site = Site(f"{place.name}:{key}", "function", place.type, runs, None, feature, after)
        self.outputs.append((values[0], site))
        return site

    def _input(self, place: _Place, key: int, given: _Input, output: Tensor) -> Site:
        """Build the site of one of several inputs of a function."""
        feature = self._feature(given.value, given.resized, place.vectors)
        before = self.placements.at_node(place.owner, place.node, "before", argument=given.argument)
        runs = len(self.first.calls[place.owner])
        site = Site(f"{place.name}:{key}", "function", place.type, runs, feature, None, (), before)
        self.function_inputs.append((output, given.value, site))
        return site

    def _values(self, path: str, module: nn.Module, shallow: ShallowGraph) -> list[dict[fx.Node, Any]]:
        return [
            flow(module, shallow, seen.calls[path][0], seen)
            for seen in (self.first, self.second)
            if seen is not None and path in seen.calls
        ]

    def _callee(self, path: str, callee: nn.Module) -> Call | None:
        calls = self.first.callees.get(self.first.calls[path][0].index, ())
        return next((call for call in calls if self.first.module(call.path) is callee), None)

    def _resized_call(self, call: Call) -> Call | None:
        """Return the first call of the same module at the second size."""
        return self.second.calls[call.path][0] if self.second and call.path in self.second.calls else None

    def _feature(self, value: Any, resized: Any, vectors: Counter[int]) -> Feature | None:
        if not isinstance(value, Tensor):
            return None
        return read_feature(
            value.shape,
            str(value.dtype).removeprefix("torch."),
            resized=resized.shape if isinstance(resized, Tensor) else None,
            vectors=vectors,
            images=self.images,
            grids=self.grids,
        )


@dataclass(frozen=True)
class _Place:
    """A node of a module's own graph."""

    name: str
    owner: str
    node: fx.Node
    type: str
    vectors: Counter[int]


@dataclass(frozen=True)
class _Input:
    """A tensor that flows into a node: its index among the inputs, and its value at both sizes."""

    argument: int
    value: Tensor
    resized: Any


def _tensor_inputs(node: fx.Node, values: list[dict[fx.Node, Any]]) -> list[_Input]:
    flowing = [(index, [table.get(source) for table in values]) for index, source in enumerate(node_inputs(node))]
    return [
        _Input(index, given[0], given[1] if len(given) > 1 else None)
        for index, given in flowing
        if isinstance(given[0], Tensor)
    ]


def _grids(seen: Observation) -> set[tuple[int, int]]:
    """Return the (H, W) of all maps (N, C, H, W) of a run."""
    maps = [value for event in seen.events for value in event.outputs if value.ndim == 4]
    return {(int(value.shape[2]), int(value.shape[3])) for value in maps}


def _type(owner: nn.Module, node: fx.Node) -> str:
    """Return the name of what a node calls: a module's class, a function, a method."""
    if node.op == "call_module":
        return type(owner.get_submodule(str(node.target))).__name__
    return str(node.target) if isinstance(node.target, str) else getattr(node.target, "__name__", "function")


def _channel_counts(values: Iterable[Any], feature: Feature | None) -> set[int]:
    """Return the numbers of channels over a module's calls; one block cannot serve calls that differ."""
    if feature is None:
        return set()
    axis, rank = feature.layout.index("C"), len(feature.shape)
    return {value.shape[axis] for value in values if isinstance(value, Tensor) and value.ndim == rank}


def _obstacle(channels: set[int]) -> str:
    return f"its calls differ in channels: {', '.join(map(str, sorted(channels)))}" if len(channels) > 1 else ""


def _items_named(output: Any, key: str) -> list[Tensor]:
    return [value for name, value in list_items(output) if name == key]


def _first_tensor(call: Call) -> Any:
    """Return the first tensor among a call's arguments."""
    return next(iter(running.tensors([*call.args, *call.kwargs.values()])), None)
