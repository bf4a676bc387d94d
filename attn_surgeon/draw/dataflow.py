"""Build the diagram of a network's dataflow from its observed run.

A node is a collapsed entry of the outline, or a function in the forward of an expanded one that computes something or
joins tensors. An edge is a tensor that one node computed and another one takes. Functions that only rearrange elements,
such as `view`, get no node: their output counts as computed by the node of their input.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from torch import Tensor

from attn_surgeon.draw.diagram import INPUT, OUTPUT, OWN_CODE, Diagram, DiagramEdge, DiagramNode, without_isolated
from attn_surgeon.draw.outline import OutlineEntry, build_outline, choose_opened
from attn_surgeon.draw.outline_view import OutlineView, shape_texts
from attn_surgeon.surgery.observe.observe import Call
from attn_surgeon.surgery.observe.recorder import Event
from attn_surgeon.surgery.rewrite.trace import ShallowGraph
from attn_surgeon.surgery.running import tensors
from attn_surgeon.surgery.sites.placements import PlacementFinder
from attn_surgeon.surgery.sites.survey import Survey

_MAX_NODES = 34  # without an explicit depth
_MAX_RETRIES = 3
_MAX_JOINS = 12  # in a forward that cannot be traced; one with more handles data, such as the boxes of a detector
_REARRANGING = frozenset({
    "view", "reshape", "flatten", "permute", "transpose", "getitem", "__getitem__", "__get__", "chunk", "contiguous",
    "expand", "size", "unsqueeze", "squeeze", "to", "type", "float", "half", "unbind", "split", "clone", "detach",
    "alias", "dropout", "pad", "roll", "_shape_as_tensor",
})  # fmt: skip


def build_diagram(survey: Survey, title: str, depth: int | None = None) -> Diagram:
    """Build the diagram of a surveyed network, expanded by `depth` levels or, by default, as far as fits a screen."""
    root, placements = build_outline(survey), PlacementFinder((survey.observation,))
    closed = [entry.name for entry in root.walk() if entry.name and _is_bookkeeping(survey, placements, entry)]
    opened = choose_opened(root, _MAX_NODES, depth, closed)
    view = OutlineView(survey.observation, placements, root, opened, own_code=_is_bookkeeping(survey, placements, root))
    return without_isolated(_build(view, _MAX_RETRIES).diagram(title))


def _is_bookkeeping(survey: Survey, placements: PlacementFinder, entry: OutlineEntry) -> bool:
    """Return whether the forward of a module is not to be drawn: it cannot be traced, and joins many tensors."""
    calls = survey.observation.calls.get(entry.names[0], ())
    events = survey.observation.events_in.get(calls[0].index, ()) if calls else ()
    joining = sum(len(event.inputs) > 1 and event.function not in _REARRANGING for event in events)
    return joining > _MAX_JOINS and not isinstance(placements.graph(entry.names[0]), ShallowGraph)


def _build(view: OutlineView, retries: int) -> _DiagramBuilder:
    """Build the nodes and edges; on cycles, retry with lists of modules expanded and one node for each repeated call.

    A module list that is one node, and a module that is called several times, can both feed themselves.
    """
    builder = _DiagramBuilder(view)
    names = builder.cyclic_nodes()
    cyclic = [(name, entry) for name, entry in builder.modules.items() if name in names]
    lists = {name for name, entry in cyclic if not view.calls(entry)}
    repeated = {name for name, entry in cyclic if len(view.calls(entry)) > 1} - view.split_calls
    if not retries or not (lists or repeated):
        return builder
    return _build(replace(view, opened=view.opened | lists, split_calls=view.split_calls | repeated), retries - 1)


class _DiagramBuilder:
    """The nodes and edges of one observed run; values are identified by the `id` of their stand-in tensor."""

    def __init__(self, view: OutlineView) -> None:
        self.view = view
        self.nodes: dict[str, DiagramNode] = {}
        self.edges: dict[tuple[str, str], dict[str, None]] = {}  # the shapes of the tensors, by (source, target)
        self.modules: dict[str, OutlineEntry] = {}  # the entries of module nodes, by node name
        self._sources: dict[int, frozenset[str]] = {}  # the nodes that computed a value
        self._paths: dict[int, str] = {}  # the module in whose forward a value was computed
        self._numbers: dict[tuple[int, str], int] = {}  # counts of equal functions in one call
        self._calls_by_output = _calls_by_output(view)
        self._add_run()

    def diagram(self, title: str) -> Diagram:
        """Return the nodes, edges and used clusters as a diagram."""
        edges = tuple(DiagramEdge(*ends, tuple(shapes)) for ends, shapes in self.edges.items())
        used = {cluster for node in self.nodes.values() for cluster in node.clusters}
        clusters = {name: entry.repeats for name, entry in self.view.clusters.items() if name in used}
        return Diagram(title, tuple(self.nodes.values()), edges, clusters)

    def cyclic_nodes(self) -> set[str]:
        """Return the names of the nodes that are on a cycle."""
        targets: dict[str, set[str]] = {}
        for source, target in self.edges:
            targets.setdefault(source, set()).add(target)
        return {name for name in targets if name in _reachable(name, targets)}

    def _add_run(self) -> None:
        observation = self.view.observation
        self._sources.update({id(value): frozenset({INPUT}) for value in observation.inputs})
        self.nodes[INPUT] = DiagramNode(INPUT, "", shape_texts(observation.inputs))
        for event in observation.events:
            self._add_event(event)
        outputs = tensors(observation.output)
        self.nodes[OUTPUT] = DiagramNode(OUTPUT, "", shape_texts(outputs))
        self._connect(outputs, OUTPUT, "")
        for child in self.view.root.children:
            self._add_to_output_node(child)

    def _add_event(self, event: Event) -> None:
        """Add the edges into the node of an event, and set the sources of its outputs.

        Without a node, the outputs have the sources of the inputs.
        """
        name, path = self._node_of(event), self.view.path(event.call)
        sources = frozenset({name}) if name else self._sources_of(event.inputs)
        if name:
            self._connect(event.inputs, name, path)
        for value in event.outputs:
            self._sources[id(value)], self._paths[id(value)] = sources, path

    def _node_of(self, event: Event) -> str:
        """Return the name of the node of an event, after adding it where it is new; an empty text for no node."""
        calls = (self._calls_by_output.get((id(value), event.call, event.function)) for value in event.outputs)
        caller = None if event.call is None else self.view.observation.by_index[event.call]
        call = next((call for call in calls if call), caller)
        entry = self.view.entry_of(call) if call else None
        if call is None or entry is None:
            return self._function_node(event)
        name = self.view.node_name(entry, call)
        self.modules[name] = entry
        self.nodes.setdefault(name, self.view.module_node(entry, name))
        return name

    def _function_node(self, event: Event) -> str:
        """Return the name of the node of a function in an expanded forward; an empty text where it gets none."""
        entry, sources = self.view.function_entry(event), self._sources_of(event.inputs)
        rearranges = event.function in _REARRANGING and not (entry and entry.groups)
        if not sources or rearranges or (len(sources) == 1 and not entry and event.function != "interpolate"):
            return ""
        if self.view.own_code and not entry and self.view.path(event.call) == "":
            self.nodes.setdefault(OWN_CODE, DiagramNode(OWN_CODE, type(self.view.observation.model).__name__, ()))
            return OWN_CODE
        name = entry.name if entry else self._numbered(event)
        self.nodes.setdefault(name, self.view.function_node(name, event))
        return name

    def _numbered(self, event: Event) -> str:
        """Return a name as fx would give it, `add`, then `add_1`, for a function in a forward that is not traced."""
        function, path = event.function.strip("_"), self.view.path(event.call)
        module = self.view.entries[path].name if path in self.view.entries else path
        key = (event.call or 0, function)
        number = self._numbers[key] = self._numbers.get(key, -1) + 1
        name = f"{module}.{function}".removeprefix(".")
        return f"{name}_{number}" if number else name

    def _sources_of(self, values: Iterable[Tensor]) -> frozenset[str]:
        return frozenset().union(*(self._sources.get(id(value), frozenset()) for value in values))

    def _connect(self, values: Iterable[Tensor], target: str, path: str) -> None:
        """Add the edges of values that a node takes, in the forward of the module at `path`."""
        for value in values:
            for source in sorted(self._sources.get(id(value), ())):  # the order of a set of texts varies between runs
                if source != target and not self._is_next_instance(source, target, value, path):
                    (shape,) = shape_texts([value])
                    self.edges.setdefault((source, target), {})[shape] = None

    def _is_next_instance(self, source: str, target: str, value: Tensor, path: str) -> bool:
        """Return whether a value goes from one repeated module to the next, both of which one cluster represents."""
        source_path = self._paths.get(id(value), "")
        shared = set(self.nodes[source].clusters) & set(self.nodes[target].clusters)
        return any(self.view.instance(name, source_path) != self.view.instance(name, path) for name in shared)

    def _add_to_output_node(self, entry: OutlineEntry) -> None:
        """Add the groups and grafts of an expanded module to the node that computed its output."""
        if entry.name in self.nodes:
            return
        producers = self._sources_of(self.view.outputs(entry))
        if len(producers) == 1:
            node = self.nodes[next(iter(producers))]
            groups = tuple(dict.fromkeys((*node.groups, *entry.groups)))
            inner = tuple(group for group in node.inner_groups if group not in groups)
            grafts = (*node.grafts, *(f"{text} {entry.name}" for text in entry.grafts))
            self.nodes[node.name] = replace(node, groups=groups, inner_groups=inner, grafts=grafts)
        for child in entry.children:
            self._add_to_output_node(child)


def _calls_by_output(view: OutlineView) -> Mapping[tuple[int, int | None, str], Call]:
    """Return the module calls by their outputs: by the `id` of the value, the caller and the module's class."""
    observation = view.observation
    return {
        (id(value), call.caller, type(observation.module(call.path)).__name__): call
        for call in observation.by_index.values()
        for value in tensors(call.output)
    }


def _reachable(start: str, targets: Mapping[str, set[str]]) -> set[str]:
    """Return the nodes that can be reached from a node along edges."""
    reachable: set[str] = set()
    waiting = [start]
    while waiting:
        new = targets.get(waiting.pop(), set()) - reachable
        reachable |= new
        waiting += new
    return reachable
