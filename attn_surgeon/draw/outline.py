"""A network as an outline: its modules and functions in the order of execution, alike neighbours folded to one part."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from attn_surgeon.measure.cost import parameters
from attn_surgeon.surgery.installed import list_grafts
from attn_surgeon.surgery.sites.survey import Site, Survey

_NUMBERED = re.compile(r"(.*?)(\d+)")


@dataclass(frozen=True)
class Part:
    """A module, a function, or a run of modules built alike.

    `names` are all the names it stands for; of a run, `name` is written as a selector: `layer3.{1..5}`. `parameters`
    counts those of all of them, with what is inside. `site` is the first one's; None where no call was seen.
    """

    name: str
    names: tuple[str, ...]
    type: str
    site: Site | None
    parameters: int
    groups: tuple[str, ...]
    grafts: tuple[str, ...]
    children: tuple[Part, ...]

    @property
    def count(self) -> int:
        """Tell how many neighbours are folded into this part."""
        return len(self.names)

    def walk(self) -> Iterator[Part]:
        """List the part and all that is inside."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def all_grafts(self) -> tuple[str, ...]:
        """Describe the grafts at the part itself, then those inside with the names of their sites."""
        inside = (f"{text} {child.name}" for child in self.walk() if child is not self for text in child.grafts)
        return (*self.grafts, *inside)

    @property
    def inside(self) -> int:
        """Count the parts inside."""
        return sum(1 for _ in self.walk()) - 1


def outline(survey: Survey, *, by_groups: bool = False) -> Part:
    """Return the outline of a surveyed network; the root has the empty name.

    With `by_groups`, only parts that belong to the same groups are folded.
    """
    return _Builder(survey, by_groups=by_groups).part("")


class _Builder:
    """What the parts are made from."""

    def __init__(self, survey: Survey, *, by_groups: bool) -> None:
        self.by_groups = by_groups
        self.modules = dict(survey.seen.model.named_modules(remove_duplicate=False))
        self.sites = survey.by_name
        self.grafts = graft_texts(survey.seen.model)
        self.children: dict[str, dict[str, None]] = {}
        for name in self.sites:
            self._place(name)

    def _place(self, name: str) -> None:
        while name:
            parent = _parent(name)
            self.children.setdefault(parent, {})[name] = None
            name = parent

    def part(self, name: str) -> Part:
        """Make one part with what is inside it."""
        module, site = self.modules.get(name), self.sites.get(name)
        kind = site.type if site else type(module).__name__
        children = folded([self.part(child) for child in self.children.get(name, ())], by_groups=self.by_groups)
        grafts, size = self.grafts.get(name, ()), parameters(module) if module else 0
        return Part(name, (name,), kind, site, size, site.groups if site else (), tuple(grafts), tuple(children))


def graft_texts(model: nn.Module) -> Mapping[str, list[str]]:
    """Describe each site's grafts: block and side."""
    texts: dict[str, list[str]] = {}
    for made in list_grafts(model):
        texts.setdefault(made.graft.site, []).append(f"{made.graft.block['name']} {made.graft.side}")
    return texts


def _parent(name: str) -> str:
    """Name what holds a site: a part of a tuple, as in `backbone:0`, belongs to what gave the tuple."""
    return name.rpartition(":" if ":" in name.rpartition(".")[2] else ".")[0]


def folded(parts: Sequence[Part], *, by_groups: bool = False) -> list[Part]:
    """Fold neighbours that are numbered one after another and built alike, with `by_groups` in the same groups."""
    runs: list[list[Part]] = []
    for part in parts:
        if runs and _continues(runs[-1][-1], part, by_groups=by_groups):
            runs[-1].append(part)
        else:
            runs.append([part])
    return [_run(run) if len(run) > 1 else run[0] for run in runs]


def _continues(last: Part, part: Part, *, by_groups: bool) -> bool:
    one, two = _NUMBERED.fullmatch(last.name), _NUMBERED.fullmatch(part.name)
    if not one or not two or one[1] != two[1] or int(two[2]) != int(one[2]) + 1:
        return False
    return _structure(last, last.name, by_groups=by_groups) == _structure(part, part.name, by_groups=by_groups)


def _structure(part: Part, root: str, *, by_groups: bool) -> tuple[Any, ...]:
    """Give what two parts must share to be folded; names count from `root`."""
    shape = part.site and part.site.output and part.site.output.shape
    calls = part.site and part.site.calls
    inside = tuple(_structure(child, root, by_groups=by_groups) for child in part.children)
    return (
        part.name.removeprefix(root),
        part.type,
        shape,
        calls,
        part.parameters,
        part.groups if by_groups else (),
        part.grafts,
        inside,
    )


def _run(parts: Sequence[Part]) -> Part:
    first, last = _NUMBERED.fullmatch(parts[0].name), _NUMBERED.fullmatch(parts[-1].name)
    assert first
    assert last
    return _merged(parts, parts[0].name, f"{first[1]}{{{first[2]}..{last[2]}}}")


def _merged(parts: Sequence[Part], old: str, new: str) -> Part:
    """Put parts built alike into one, whose name begins with `new` where the first one's does with `old`."""
    first = parts[0]
    children = [_merged(alike, old, new) for alike in zip(*(part.children for part in parts), strict=True)]
    return replace(
        first,
        name=new + first.name.removeprefix(old),
        names=tuple(name for part in parts for name in part.names),
        parameters=sum(part.parameters for part in parts),
        groups=tuple(dict.fromkeys(group for part in parts for group in part.groups)),
        children=tuple(children),
    )


def opened(root: Part, rows: int, depth: int | None = None, closed: Sequence[str] = ()) -> frozenset[str]:
    """Choose the parts to show with what is inside: level by level, as many as give no more than `rows` rows.

    Where a whole level is too much, the classes of modules are opened that fit as a whole. `depth` opens by levels
    whatever it takes; `closed` are never opened.
    """
    chosen, level, shown = {root.name}, list(root.children), len(_shown(root, depth))
    while level := [part for part in level if part.name not in closed and _is_worth(part, depth)]:
        depth = None if depth is None else depth - 1
        if depth == 0:
            break
        for kinds in _kinds(level, everything=depth is not None, room=rows - shown):
            more = sum(len(_shown(part, depth)) for part in kinds)
            if depth is not None or shown + more <= rows:
                chosen |= {part.name for part in kinds}
                shown += more
        level = [child for part in level if part.name in chosen for child in part.children]
    return frozenset(chosen)


def _is_worth(part: Part, depth: int | None) -> bool:
    """Say whether there is something inside to see; the functions that make up a LayerNorm are not, unless asked."""
    shown = _shown(part, depth)
    return any(depth is not None or child.parameters or child.groups or child.grafts for child in shown)


def _shown(part: Part, depth: int | None) -> list[Part]:
    """List what is shown inside a part: the parts of a tuple only where they matter, unless a depth is asked for."""
    return [
        child
        for child in part.children
        if depth is not None or not (child.site and child.site.is_item) or child.groups or child.grafts
    ]


def _kinds(level: Sequence[Part], *, everything: bool, room: int) -> list[list[Part]]:
    if everything or sum(len(_shown(part, None)) for part in level) <= room:
        return [list(level)]
    kinds: dict[str, list[Part]] = {}
    for part in level:
        kinds.setdefault(part.type, []).append(part)
    return sorted(kinds.values(), key=lambda parts: -sum(part.parameters for part in parts))


def rows(root: Part, open_names: frozenset[str], depth: int | None = None) -> Iterator[tuple[Part, tuple[bool, ...]]]:
    """List the parts shown, each with one flag per level: whether it, or what holds it, is the last there."""
    yield from _rows(root, open_names, depth, ())


def _rows(
    part: Part, open_names: frozenset[str], depth: int | None, lasts: tuple[bool, ...]
) -> Iterator[tuple[Part, tuple[bool, ...]]]:
    shown = _shown(part, depth)
    for child in shown:
        here = (*lasts, child is shown[-1])
        yield child, here
        if child.name in open_names:
            yield from _rows(child, open_names, depth, here)
