"""Map observed calls and functions to the nodes and clusters of a diagram: expanded entries are clusters."""

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
from attn_surgeon.surgery.rewrite.output_items import get_item
from attn_surgeon.surgery.rewrite.trace import ShallowGraph
from attn_surgeon.surgery.running import tensors
from attn_surgeon.surgery.sites.placements import PlacementFinder


@dataclass(frozen=True, eq=False)
class OutlineView:
    """An outline, with the entries that are expanded in a diagram.

    Args:
        observation: the observed run.
        placements: the traced graphs of modules.
        root: the outline.
        opened: the names of the expanded entries.
        split_calls: the names of the entries that get a node for each call; others have one node for all calls.
        own_code: whether the functions in the forward of the network itself share one node.
    """

    observation: Observation
    placements: PlacementFinder
    root: OutlineEntry
    opened: frozenset[str]
    split_calls: frozenset[str] = frozenset()
    own_code: bool = False

    @cached_property
    def entries(self) -> Mapping[str, OutlineEntry]:
        """All entries, by the paths that they represent."""
        return {name: entry for entry in self.root.walk() for name in entry.names}

    @cached_property
    def clusters(self) -> Mapping[str, OutlineEntry]:
        """The expanded entries by name, outer ones first."""
        return {entry.name: entry for entry in self.root.walk() if entry.name and entry.name in self.opened}

    def clusters_around(self, name: str) -> tuple[str, ...]:
        """Return the names of the clusters that a node is in."""
        return tuple(cluster for cluster in self.clusters if name.startswith((f"{cluster}.", f"{cluster}:")))

    def instance(self, cluster: str, path: str) -> str:
        """Return which of the modules that a cluster represents contains a path; an empty text for none."""
        return next((name for name in self.clusters[cluster].names if f"{path}.".startswith(f"{name}.")), "")

    def path(self, call: int | None) -> str:
        """Return the path of the module of a call, by its index."""
        return "" if call is None else self.observation.by_index[call].path

    def entry_of(self, call: Call) -> OutlineEntry | None:
        """Return the collapsed entry that contains a call; None where everything around the call is expanded."""
        parts = call.path.split(".") if call.path else []
        for end in range(1, len(parts) + 1):
            entry = self.entries.get(".".join(parts[:end]))
            if entry is not None and entry.name not in self.opened:
                return entry
        return None if call.caller is None else self.entry_of(self.observation.by_index[call.caller])

    def node_name(self, entry: OutlineEntry, call: Call) -> str:
        """Return the name of the node of a call: the entry's, with a number as fx gives it where calls are split."""
        if entry.name not in self.split_calls:
            return entry.name
        while call.path not in entry.names and call.caller is not None:
            call = self.observation.by_index[call.caller]
        calls = [other.index for other in self.observation.calls[call.path] if other.caller == call.caller]
        number = calls.index(call.index)
        return f"{entry.name}_{number}" if number else entry.name

    def module_node(self, entry: OutlineEntry, name: str) -> DiagramNode:
        """Return the node of a collapsed entry."""
        outputs = (value for call in self.calls(entry) for value in tensors(call.output))
        inner = (group for child in entry.descendants for group in child.groups)
        return DiagramNode(
            name=name,
            type=entry.type,
            shapes=shape_texts(outputs),
            clusters=self.clusters_around(entry.name),
            parameters=entry.parameters,
            repeats=entry.repeats,
            groups=entry.groups,
            inner_groups=tuple(dict.fromkeys(group for group in inner if group not in entry.groups)),
            grafts=entry.all_grafts,
        )

    def function_node(self, name: str, event: Event) -> DiagramNode:
        """Return the node of a function in the forward of an expanded module."""
        plain = DiagramNode(
            name, event.function.strip("_"), shape_texts(event.outputs[-1:]), self.clusters_around(name)
        )
        entry = self.function_entry(event)
        if entry is None:
            return plain
        inner = tuple(dict.fromkeys(group for child in entry.children for group in child.groups))
        return replace(plain, groups=entry.groups, inner_groups=inner, grafts=entry.all_grafts)

    def function_entry(self, event: Event) -> OutlineEntry | None:
        """Return the entry of a function in the forward of an expanded module; None where it has none."""
        names = (self._function_names.get(id(value)) for value in event.outputs)
        name = next((name for name in names if name), None)
        return None if name is None else self.entries.get(name)

    def calls(self, entry: OutlineEntry) -> tuple[Call, ...]:
        """Return the calls of the first module that an entry represents."""
        return self.observation.calls.get(entry.names[0], ())

    def outputs(self, entry: OutlineEntry) -> list[Tensor]:
        """Return the outputs of the first call of an entry or, for the entry of an item, that item."""
        path, _, item = entry.names[0].partition(":")
        calls = self.observation.calls.get(path, ())
        output = calls[0].output if calls else None
        return tensors(get_item(output, item) if item and calls else output)

    @cached_property
    def _function_names(self) -> Mapping[int, str]:
        """The names of the functions in the forwards of expanded modules, as in fx, by the `id` of their outputs."""
        names: dict[int, str] = {}
        for call in self.observation.by_index.values():
            shallow = self.placements.graph(call.path) if self.entry_of(call) is None else ""
            if not isinstance(shallow, ShallowGraph):
                continue
            values = flow(self.observation.module(call.path), shallow, call, self.observation)
            for name, node in shallow.nodes.items():
                if node.op in ("call_function", "call_method"):
                    for value in tensors(values.get(node)):
                        names.setdefault(id(value), f"{call.path}.{name}".removeprefix("."))
        return names


def shape_texts(values: Iterable[Tensor]) -> tuple[str, ...]:
    """Return the distinct shapes of tensors as text, such as `1×64×8×8`."""
    return tuple(dict.fromkeys("×".join(map(str, value.shape)) for value in values))
