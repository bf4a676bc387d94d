"""The data flow of a network as a diagram: its example run, followed value by value from node to node.

A node is an entry of the outline that is not opened, or a function in the forward of an opened one that joins values
or computes something. An edge is a value that one node made and another one used. Functions that only rearrange, such
as `view`, are no nodes: what they give counts as made by what made their input.
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
from attn_surgeon.surgery.sites.routes import Routes
from attn_surgeon.surgery.sites.survey import Survey

_NODES = 34  # in a picture, where no depth is asked for
_RETRIES = 3
_JOINS = 12  # more in one forward are bookkeeping, as of a detector's boxes, and no picture
_REARRANGING = frozenset({
    "view", "reshape", "flatten", "permute", "transpose", "getitem", "__getitem__", "__get__", "chunk", "contiguous",
    "expand", "size", "unsqueeze", "squeeze", "to", "type", "float", "half", "unbind", "split", "clone", "detach",
    "alias", "dropout", "pad", "roll", "_shape_as_tensor",
})  # fmt: skip


def build_diagram(survey: Survey, title: str, depth: int | None = None) -> Diagram:
    """Build the diagram of a surveyed network, folded to what a picture holds or opened by `depth` levels."""
    root, routes = build_outline(survey), Routes((survey.observation,))
    closed = [entry.name for entry in root.walk() if entry.name and _is_bookkeeping(survey, routes, entry)]
    opened = choose_opened(root, _NODES, depth, closed)
    view = OutlineView(survey.observation, routes, root, opened, own_code=_is_bookkeeping(survey, routes, root))
    return without_isolated(_follow(view, _RETRIES).diagram(title))


def _is_bookkeeping(survey: Survey, routes: Routes, entry: OutlineEntry) -> bool:
    """Return whether a forward is better not shown: it cannot be traced, and joins values all the time."""
    calls = survey.observation.calls.get(entry.names[0], ())
    events = survey.observation.events_in.get(calls[0].index, ()) if calls else ()
    joining = sum(len(event.inputs) > 1 and event.function not in _REARRANGING for event in events)
    return joining > _JOINS and not isinstance(routes.graph(entry.names[0]), ShallowGraph)


def _follow(view: OutlineView, retries: int) -> _Flow:
    """Follow the run's values; where they flow in cycles, open lists of modules and take repeated calls apart."""
    flow = _Flow(view)
    names = flow.cyclic_nodes()
    cyclic = [(name, entry) for name, entry in flow.modules.items() if name in names]
    lists = {name for name, entry in cyclic if not view.calls(entry)}
    repeated = {name for name, entry in cyclic if len(view.calls(entry)) > 1} - view.apart
    if not retries or not (lists or repeated):
        return flow
    return _follow(replace(view, opened=view.opened | lists, apart=view.apart | repeated), retries - 1)


class _Flow:
    """The nodes and edges of one run. A value is known by the identity of what stands for it in the observation."""

    def __init__(self, view: OutlineView) -> None:
        self.view = view
        self.nodes: dict[str, DiagramNode] = {}
        self.edges: dict[tuple[str, str], dict[str, None]] = {}  # with the shapes of their values
        self.modules: dict[str, OutlineEntry] = {}  # by the names of their nodes
        self._sources: dict[int, frozenset[str]] = {}  # the nodes that a value comes from
        self._paths: dict[int, str] = {}  # the module in whose forward a value was made
        self._numbers: dict[tuple[int, str], int] = {}  # of functions alike in one call
        self._returned = _returned(view)
        self._follow_all()

    def diagram(self, title: str) -> Diagram:
        """Return what was found as a diagram."""
        edges = tuple(DiagramEdge(*ends, tuple(shapes)) for ends, shapes in self.edges.items())
        used = {cluster for node in self.nodes.values() for cluster in node.clusters}
        clusters = {name: entry.repeats for name, entry in self.view.clusters.items() if name in used}
        return Diagram(title, tuple(self.nodes.values()), edges, clusters)

    def cyclic_nodes(self) -> set[str]:
        """Return the names of the nodes from which edges lead back to themselves."""
        targets: dict[str, set[str]] = {}
        for source, target in self.edges:
            targets.setdefault(source, set()).add(target)
        return {name for name in targets if name in _reachable(name, targets)}

    def _follow_all(self) -> None:
        observation = self.view.observation
        self._sources.update({id(value): frozenset({INPUT}) for value in observation.inputs})
        self.nodes[INPUT] = DiagramNode(INPUT, "", shape_texts(observation.inputs))
        for event in observation.events:
            self._follow(event)
        results = tensors(observation.output)
        self.nodes[OUTPUT] = DiagramNode(OUTPUT, "", shape_texts(results))
        self._connect(results, OUTPUT, "")
        for child in self.view.root.children:
            self._mark_nodeless(child)

    def _follow(self, event: Event) -> None:
        """Add the edges into the node of an event, and note what comes out of it; without a node, values pass."""
        name, path = self._node_of(event), self.view.path(event.call)
        sources = frozenset({name}) if name else self._sources_of(event.inputs)
        if name:
            self._connect(event.inputs, name, path)
        for value in event.outputs:
            self._sources[id(value)], self._paths[id(value)] = sources, path

    def _node_of(self, event: Event) -> str:
        """Return the name of an event's node, which is added where it is new; the empty string where it has none."""
        calls = (self._returned.get((id(value), event.call, event.function)) for value in event.outputs)
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
        """Add the node of a function in an opened forward, if it is one to show, and return its name."""
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
        """Name a function that is in no graph as fx would: `add`, then `add_1`."""
        function, path = event.function.strip("_"), self.view.path(event.call)
        holder = self.view.entries[path].name if path in self.view.entries else path
        key = (event.call or 0, function)
        number = self._numbers[key] = self._numbers.get(key, -1) + 1
        name = f"{holder}.{function}".removeprefix(".")
        return f"{name}_{number}" if number else name

    def _sources_of(self, values: Iterable[Tensor]) -> frozenset[str]:
        return frozenset().union(*(self._sources.get(id(value), frozenset()) for value in values))

    def _connect(self, values: Iterable[Tensor], target: str, path: str) -> None:
        """Add the edges of values that are used at a node, in the forward of the module at `path`."""
        for value in values:
            for source in sorted(self._sources.get(id(value), ())):  # a set of names has another order in every run
                if source != target and not self._is_next_instance(source, target, value, path):
                    (shape,) = shape_texts([value])
                    self.edges.setdefault((source, target), {})[shape] = None

    def _is_next_instance(self, source: str, target: str, value: Tensor, path: str) -> bool:
        """Return whether a value flows from one of several modules built alike to the next; one stands for them all."""
        made = self._paths.get(id(value), "")
        shared = set(self.nodes[source].clusters) & set(self.nodes[target].clusters)
        return any(self.view.instance(name, made) != self.view.instance(name, path) for name in shared)

    def _mark_nodeless(self, entry: OutlineEntry) -> None:
        """Add the groups and grafts of an opened module to the node that made its output."""
        if entry.name in self.nodes:
            return
        makers = self._sources_of(self.view.outputs(entry))
        if len(makers) == 1:
            node = self.nodes[next(iter(makers))]
            groups = tuple(dict.fromkeys((*node.groups, *entry.groups)))
            inner = tuple(group for group in node.inner_groups if group not in groups)
            grafts = (*node.grafts, *(f"{text} {entry.name}" for text in entry.grafts))
            self.nodes[node.name] = replace(node, groups=groups, inner_groups=inner, grafts=grafts)
        for child in entry.children:
            self._mark_nodeless(child)


def _returned(view: OutlineView) -> Mapping[tuple[int, int | None, str], Call]:
    """Return the calls by what they gave back: the value's identity, the caller and the module's class."""
    observation = view.observation
    return {
        (id(value), call.caller, type(observation.module(call.path)).__name__): call
        for call in observation.by_index.values()
        for value in tensors(call.output)
    }


def _reachable(start: str, targets: Mapping[str, set[str]]) -> set[str]:
    """Return the nodes that edges lead to from a node."""
    found: set[str] = set()
    waiting = [start]
    while waiting:
        new = targets.get(waiting.pop(), set()) - found
        found |= new
        waiting += new
    return found
