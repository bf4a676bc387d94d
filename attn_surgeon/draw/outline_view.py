"""What of an outline a diagram shows: entries that are opened show their inside in a cluster, the others are nodes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from torch import Tensor

from attn_surgeon.draw.diagram import DiagramNode
from attn_surgeon.draw.outline import OutlineEntry
from attn_surgeon.surgery.observe.flow import flow
from attn_surgeon.surgery.observe.observe import Call, Observation
from attn_surgeon.surgery.observe.recorder import Event
from attn_surgeon.surgery.rewrite.items import get_item
from attn_surgeon.surgery.rewrite.trace import ShallowGraph
from attn_surgeon.surgery.running import tensors
from attn_surgeon.surgery.sites.routes import Routes


@dataclass(frozen=True, eq=False)
class OutlineView:
    """An outline with the names of its opened entries.

    `apart` are the entries whose calls are a node each; the calls of the others share one. With `own_code` the
    functions in the network's own forward share one node as well.
    """

    observation: Observation
    routes: Routes
    root: OutlineEntry
    opened: frozenset[str]
    apart: frozenset[str] = frozenset()
    own_code: bool = False

    @cached_property
    def entries(self) -> Mapping[str, OutlineEntry]:
        """Return all entries by the names they stand for."""
        return {name: entry for entry in self.root.walk() for name in entry.names}

    @cached_property
    def clusters(self) -> Mapping[str, OutlineEntry]:
        """Return the opened entries by their own names, outer ones first."""
        return {entry.name: entry for entry in self.root.walk() if entry.name and entry.name in self.opened}

    def clusters_around(self, name: str) -> tuple[str, ...]:
        """Return the names of the clusters that a node is in."""
        return tuple(cluster for cluster in self.clusters if name.startswith((f"{cluster}.", f"{cluster}:")))

    def instance(self, cluster: str, path: str) -> str:
        """Return which of the modules a cluster stands for holds a path; the empty string where none does."""
        return next((name for name in self.clusters[cluster].names if f"{path}.".startswith(f"{name}.")), "")

    def path(self, call: int | None) -> str:
        """Return the path of the module of a call."""
        return "" if call is None else self.observation.by_index[call].path

    def entry_of(self, call: Call) -> OutlineEntry | None:
        """Return the entry whose node a call belongs to; None where everything around it is opened."""
        parts = call.path.split(".") if call.path else []
        for end in range(1, len(parts) + 1):
            entry = self.entries.get(".".join(parts[:end]))
            if entry is not None and entry.name not in self.opened:
                return entry
        return None if call.caller is None else self.entry_of(self.observation.by_index[call.caller])

    def node_name(self, entry: OutlineEntry, call: Call) -> str:
        """Return the name of the node of a call: the entry's, with fx's numbering where calls are apart."""
        if entry.name not in self.apart:
            return entry.name
        while call.path not in entry.names and call.caller is not None:
            call = self.observation.by_index[call.caller]
        calls = [other.index for other in self.observation.calls[call.path] if other.caller == call.caller]
        return f"{entry.name}_{place}" if (place := calls.index(call.index)) else entry.name

    def module_node(self, entry: OutlineEntry, name: str) -> DiagramNode:
        """Return the node of a module that is not opened."""
        outputs = (value for call in self.calls(entry) for value in tensors(call.output))
        inner = (group for child in entry.descendants for group in child.groups)
        return DiagramNode(
            name,
            entry.type,
            shape_texts(outputs),
            self.clusters_around(entry.name),
            entry.parameters,
            entry.repeats,
            entry.groups,
            tuple(dict.fromkeys(group for group in inner if group not in entry.groups)),
            entry.all_grafts,
        )

    def function_node(self, name: str, event: Event) -> DiagramNode:
        """Return the node of a function in the forward of an opened module."""
        plain = DiagramNode(
            name, event.function.strip("_"), shape_texts(event.outputs[-1:]), self.clusters_around(name)
        )
        entry = self.function_entry(event)
        if entry is None:
            return plain
        inner = tuple(dict.fromkeys(group for child in entry.children for group in child.groups))
        return replace(plain, groups=entry.groups, inner_groups=inner, grafts=entry.all_grafts)

    def function_entry(self, event: Event) -> OutlineEntry | None:
        """Return the entry of a function in the forward of an opened module."""
        names = (self._function_names.get(id(value)) for value in event.outputs)
        name = next((name for name in names if name), None)
        return None if name is None else self.entries.get(name)

    def calls(self, entry: OutlineEntry) -> tuple[Call, ...]:
        """Return the calls of the first module that an entry stands for."""
        return self.observation.calls.get(entry.names[0], ())

    def outputs(self, entry: OutlineEntry) -> list[Tensor]:
        """Return what an entry's first call gave back, or the one tensor of it that the entry stands for."""
        path, _, item = entry.names[0].partition(":")
        calls = self.observation.calls.get(path, ())
        output = calls[0].output if calls else None
        return tensors(get_item(output, item) if item and calls else output)

    @cached_property
    def _function_names(self) -> Mapping[int, str]:
        """Name the functions in the forwards of opened modules as fx does, by the identity of their outputs."""
        names: dict[int, str] = {}
        for call in self.observation.by_index.values():
            shallow = self.routes.graph(call.path) if self.entry_of(call) is None else ""
            if not isinstance(shallow, ShallowGraph):
                continue
            values = flow(self.observation.module(call.path), shallow, call, self.observation)
            for name, node in shallow.nodes.items():
                if node.op in ("call_function", "call_method"):
                    for value in tensors(values.get(node)):
                        names.setdefault(id(value), f"{call.path}.{name}".removeprefix("."))
        return names


def shape_texts(values: Iterable[Tensor]) -> tuple[str, ...]:
    """Return the different shapes of tensors as text."""
    return tuple(dict.fromkeys("×".join(map(str, value.shape)) for value in values))
