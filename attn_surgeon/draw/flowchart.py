"""What flows where in a network, as boxes and arrows: the parts of its outline, joined as its example run joined them.

A box is a part that is not open, or a function in the forward of an open one that joins values or computes something.
An arrow is a value that one box made and another one used. Plumbing such as `view` passes on what it is given.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from torch import Tensor

from attn_surgeon.draw.chart import INPUT, OUTPUT, OWN, Arrow, Box, Chart, connected
from attn_surgeon.draw.outline import Part, opened, outline
from attn_surgeon.surgery.observe.flow import flow
from attn_surgeon.surgery.observe.observe import Call
from attn_surgeon.surgery.observe.recorder import Event
from attn_surgeon.surgery.rewrite.items import get_item
from attn_surgeon.surgery.rewrite.trace import ShallowGraph
from attn_surgeon.surgery.running import tensors
from attn_surgeon.surgery.sites.routes import Routes
from attn_surgeon.surgery.sites.survey import Survey

_BOXES = 34
_TRIES = 4
_JOINS = 12  # more in one forward is bookkeeping, as of a detector's boxes, and no picture
_PLUMBING = frozenset({
    "view", "reshape", "flatten", "permute", "transpose", "getitem", "__getitem__", "__get__", "chunk", "contiguous",
    "expand", "size", "unsqueeze", "squeeze", "to", "type", "float", "half", "unbind", "split", "clone", "detach",
    "alias", "dropout", "pad", "roll", "_shape_as_tensor",
})  # fmt: skip


def chart(survey: Survey, title: str, depth: int | None = None) -> Chart:
    """Draw up the flow of a surveyed network, folded to what a picture holds or opened by `depth` levels."""
    root = outline(survey)
    routes = Routes((survey.seen,))
    closed = [part.name for part in root.walk() if part.name and _is_bookkeeping(survey, routes, part)]
    open_names = opened(root, _BOXES, depth, closed)
    busy = "" if _is_bookkeeping(survey, routes, root) else None
    apart: frozenset[str] = frozenset()
    for _ in range(_TRIES):
        weaver = _Weaver(survey, routes, root, open_names, busy, apart)
        drawn = weaver.chart(title)
        open_more, more_apart = weaver.in_circles(drawn)
        if not open_more and not more_apart:
            break
        open_names, apart = open_names | open_more, apart | more_apart
    return connected(drawn)


def _is_bookkeeping(survey: Survey, routes: Routes, part: Part) -> bool:
    """Say whether a part's own forward is better not shown: it cannot be traced, and joins values all the time."""
    calls = survey.seen.calls.get(part.names[0], ())
    events = survey.seen.events_in.get(calls[0].index, ()) if calls else ()
    joining = sum(len(event.inputs) > 1 and event.function not in _PLUMBING for event in events)
    return joining > _JOINS and not isinstance(routes.graph(part.names[0]), ShallowGraph)


class _Weaver:
    """Follow every value of the run from the box that made it to those that use it."""

    def __init__(self, survey: Survey, routes: Routes, root: Part, open_names: frozenset[str],
                 busy: str | None = None, repeated: frozenset[str] = frozenset()) -> None:  # fmt: skip
        self.root, self.busy = root, busy
        self.seen, self.routes, self.open, self.apart = survey.seen, routes, open_names, repeated
        self.parts = {name: part for part in root.walk() for name in part.names}
        self.frames = {part.name: part.count for part in root.walk() if part.name and part.name in open_names}
        self.frame_names = {part.name: part.names for part in root.walk() if part.name in self.frames}
        self.makers = self._makers()
        self.named: dict[int, str] = {}
        self.counts: dict[tuple[int, str], int] = {}
        self.boxes: dict[str, Box] = {}
        self.arrows: dict[tuple[str, str], dict[str, None]] = {}
        self.sources: dict[int, frozenset[str]] = {}
        self.places: dict[int, str] = {}
        self.parts_by_box: dict[str, Part] = {}

    def _makers(self) -> dict[tuple[int, int | None, str], Call]:
        """Find the call that gave a value back, by the value, the caller and the module's class."""
        found = {}
        for call in self.seen.by_index.values():
            kind = type(self.seen.module(call.path)).__name__
            for value in tensors(call.output):
                found[id(value), call.caller, kind] = call
        return found

    def chart(self, title: str) -> Chart:
        """Weave all events in."""
        self._add(Box(INPUT, "", _texts(self.seen.inputs), ()))
        for value in self.seen.inputs:
            self.sources[id(value)] = frozenset({INPUT})
        for call in self.seen.by_index.values():
            if self._part_of(call) is None:
                self._name_functions(call)
        for event in self.seen.events:
            self._weave(event)
        results = list(tensors(self.seen.output))
        self._add(Box(OUTPUT, "", _texts(results), ()))
        self._join(results, OUTPUT)
        for part in self.root.children:
            self._mark(part)
        return Chart(title, tuple(self.boxes.values()), self._kept(), self._used_frames())

    def _part_of(self, call: Call) -> Part | None:
        """Find the box a call is drawn in; None where all around it is open."""
        names = [".".join(call.path.split(".")[:end]) for end in range(1, call.path.count(".") + 2) if call.path]
        for name in names:
            part = self.parts.get(name)
            if part is not None and part.name not in self.open:
                return part
        caller = None if call.caller is None else self.seen.by_index[call.caller]
        return None if caller is None else self._part_of(caller)

    def _name_functions(self, call: Call) -> None:
        """Note the names of the functions in an open part, by what they give."""
        shallow = self.routes.graph(call.path)
        if not isinstance(shallow, ShallowGraph):
            return
        values = flow(self.seen.module(call.path), shallow, call, self.seen)
        for name, node in shallow.nodes.items():
            if node.op in ("call_function", "call_method"):
                for value in tensors(values.get(node)):
                    self.named.setdefault(id(value), f"{call.path}.{name}".removeprefix("."))

    def in_circles(self, drawn: Chart) -> tuple[frozenset[str], frozenset[str]]:
        """Name the boxes that make the flow run in circles: lists of modules to open, and modules called repeatedly."""
        import networkx as nx

        flow_graph = nx.DiGraph((arrow.source, arrow.target) for arrow in drawn.arrows)
        circles = [circle for circle in nx.strongly_connected_components(flow_graph) if len(circle) > 1]
        boxes = [name for circle in circles for name in circle if name in self.parts_by_box]
        lists = frozenset(name for name in boxes if not self._calls_of(name))
        return lists, frozenset(name for name in boxes if self._calls_of(name) > 1) - self.apart

    def _calls_of(self, name: str) -> int:
        part = self.parts_by_box.get(name)
        return len(self.seen.calls.get(part.names[0], ())) if part else 0

    def _weave(self, event: Event) -> None:
        made = (self.makers.get((id(value), event.call, event.function)) for value in event.outputs)
        call = next((call for call in made if call), None)
        if call is None and event.call is not None:
            call = self.seen.by_index[event.call]
        part = self._part_of(call) if call else None
        if part is None or call is None:
            self._pass(event, self._function_box(event))
            return
        name = self._call_name(part, call)
        self.parts_by_box[name] = part
        self._add(replace(self._module_box(part), name=name))
        self._pass(event, name)

    def _mark(self, part: Part) -> None:
        """Tell the groups and grafts of a part without a box on the box that made what it gives."""
        if part.name in self.parts_by_box or part.name in self.boxes:
            return
        makers = {name for value in self._given(part) for name in self.sources.get(id(value), ())}
        if len(makers) == 1:
            box = self.boxes[makers.pop()]
            groups = tuple(dict.fromkeys((*box.groups, *part.groups)))
            inner = tuple(group for group in box.inner if group not in groups)
            grafts = (*box.grafts, *(f"{text} {part.name}" for text in part.grafts))
            self.boxes[box.name] = replace(box, groups=groups, inner=inner, grafts=grafts)
        for child in part.children:
            self._mark(child)

    def _given(self, part: Part) -> list[Tensor]:
        """List the values that a module gave, or the one that a part of its tuple is."""
        name, _, item = part.names[0].partition(":")
        calls = self.seen.calls.get(name, ())
        output = calls[0].output if calls else None
        return list(tensors(get_item(output, item) if item and calls else output))

    def _call_name(self, part: Part, call: Call) -> str:
        """Name the box of one call: the part's own name, and fx's for later calls where they are drawn apart."""
        if part.name not in self.apart:
            return part.name
        while call.path not in part.names and call.caller is not None:
            call = self.seen.by_index[call.caller]
        alike = [other.index for other in self.seen.calls[call.path] if other.caller == call.caller]
        return f"{part.name}_{place}" if (place := alike.index(call.index)) else part.name

    def _pass(self, event: Event, name: str) -> None:
        """Draw the arrows into a box, and note what comes out of it; without a box, values pass."""
        place = "" if event.call is None else self.seen.by_index[event.call].path
        if name:
            self._join(event.inputs, name, place)
            sources = frozenset({name})
        else:
            sources = frozenset().union(*(self.sources.get(id(value), ()) for value in event.inputs))
        for value in event.outputs:
            self.sources[id(value)], self.places[id(value)] = sources, place

    def _join(self, inputs: Iterable[Tensor], name: str, place: str = "") -> None:
        for value in inputs:
            for source in self.sources.get(id(value), ()):
                if source != name and not self._runs_on(source, name, self.places.get(id(value), ""), place):
                    shapes = self.arrows.setdefault((source, name), {})
                    shapes["×".join(map(str, value.shape))] = None

    def _runs_on(self, source: str, target: str, made: str, used: str) -> bool:
        """Tell the way from one of a run of alike frames into the next, which the picture shows as one."""
        shared = set(self.boxes[source].frames) & set(self.boxes[target].frames)
        return any(self._turn(frame, made) != self._turn(frame, used) for frame in shared)

    def _turn(self, frame: str, place: str) -> str:
        """Name the one of a frame's alike modules that a place is in."""
        within = (name for name in self.frame_names[frame] if f"{place}.".startswith(f"{name}."))
        return next(within, "")

    def _add(self, box: Box) -> None:
        self.boxes.setdefault(box.name, box)

    def _module_box(self, part: Part) -> Box:
        inside = [child for child in part.walk() if child is not part]
        inner = dict.fromkeys(group for child in inside for group in child.groups if group not in part.groups)
        return Box(
            part.name, part.type, self._shapes_of(part), self._frames_of(part.name), part.parameters, part.count,
            part.groups, tuple(inner), part.all_grafts,
        )  # fmt: skip

    def _shapes_of(self, part: Part) -> tuple[str, ...]:
        calls = self.seen.calls.get(part.names[0], ())
        return _texts(value for call in calls for value in tensors(call.output))

    def _frames_of(self, name: str) -> tuple[str, ...]:
        return tuple(frame for frame in self.frames if name.startswith((frame + ".", frame + ":")))

    def _function_box(self, event: Event) -> str:
        """Add a box for a function in an open part, if it is one to show, and give its name."""
        sources = {source for value in event.inputs for source in self.sources.get(id(value), ())}
        known = next((self.named[id(value)] for value in event.outputs if id(value) in self.named), "")
        part = self.parts.get(known) if known else None
        groups = part.groups if part else ()
        if not sources or (event.function in _PLUMBING and not groups):
            return ""
        if len(sources) == 1 and not part and event.function != "interpolate":
            return ""
        if not part and event.call is not None and self.seen.by_index[event.call].path == self.busy:
            self._add(Box(OWN, type(self.seen.model).__name__, (), ()))
            return OWN
        name = part.name if part else self._numbered(event)
        inner = [group for child in part.children for group in child.groups] if part else []
        grafts = part.all_grafts if part else ()
        self._add(Box(name, event.function.strip("_"), _texts(event.outputs[-1:]), self._frames_of(name),
                      groups=groups, inner=tuple(dict.fromkeys(inner)), grafts=grafts))  # fmt: skip
        return name

    def _numbered(self, event: Event) -> str:
        """Name a function that no graph names as fx would: `add`, then `add_1`."""
        function = event.function.strip("_")
        path = self.seen.by_index[event.call].path if event.call is not None else ""
        path = self.parts[path].name if path in self.parts else path
        key = (event.call or 0, function)
        count = self.counts[key] = self.counts.get(key, -1) + 1
        name = f"{path}.{function}".removeprefix(".")
        return f"{name}_{count}" if count else name

    def _kept(self) -> tuple[Arrow, ...]:
        return tuple(Arrow(source, target, tuple(shapes)) for (source, target), shapes in self.arrows.items())

    def _used_frames(self) -> dict[str, int]:
        used = {frame for box in self.boxes.values() for frame in box.frames}
        return {frame: count for frame, count in self.frames.items() if frame in used}


def _texts(values: Iterable[Any]) -> tuple[str, ...]:
    return tuple(dict.fromkeys("×".join(map(str, value.shape)) for value in values))
