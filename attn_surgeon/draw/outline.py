"""Build the outline of a network: a tree of its modules and functions in execution order, with repeats folded."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from attn_surgeon.measure.cost import parameters
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.sites.survey import Site, Survey

_NUMBERED = re.compile(r"(.*?)(\d+)")


@dataclass(frozen=True)
class OutlineEntry:
    """A module, a function, or consecutive modules of the same structure, folded into one entry.

    Args:
        name: its path or, for folded modules, a selector: `layer3.{1..5}`.
        names: the paths of all modules that it represents.
        type: the class or function.
        site: the site of the first module; None where it was not called in the observed run.
        parameters: the number of parameters of all of them, descendants included.
        groups: the groups of the sites.
        grafts: descriptions of the grafts at the site.
        children: the entries inside it.
    """

    name: str
    names: tuple[str, ...]
    type: str
    site: Site | None
    parameters: int
    groups: tuple[str, ...]
    grafts: tuple[str, ...]
    children: tuple[OutlineEntry, ...]

    @property
    def repeats(self) -> int:
        """The number of modules that are folded into this entry."""
        return len(self.names)

    def walk(self) -> Iterator[OutlineEntry]:
        """Yield the entry and all its descendants, in preorder."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def descendants(self) -> tuple[OutlineEntry, ...]:
        """All entries inside this one, at any depth."""
        return tuple(self.walk())[1:]

    @property
    def all_grafts(self) -> tuple[str, ...]:
        """Descriptions of the grafts at the entry and, with the names of their sites, of those inside it."""
        below = (f"{text} {entry.name}" for entry in self.descendants for text in entry.grafts)
        return (*self.grafts, *below)


def build_outline(survey: Survey, *, by_groups: bool = False) -> OutlineEntry:
    """Build the outline of a surveyed network and return its root, whose name is empty.

    With `by_groups`, only entries of the same groups of sites are folded.
    """
    children: dict[str, dict[str, None]] = {}
    for site in survey.by_name:
        name = site
        while name:
            parent = _parent(name)
            children.setdefault(parent, {})[name] = None
            name = parent
    modules = dict(survey.observation.model.named_modules(remove_duplicate=False))
    grafts = graft_texts(survey.observation.model)

    def build(name: str) -> OutlineEntry:
        module, site = modules.get(name), survey.by_name.get(name)
        return OutlineEntry(
            name,
            (name,),
            site.type if site else type(module).__name__,
            site,
            parameters(module) if module else 0,
            site.groups if site else (),
            tuple(grafts.get(name, ())),
            tuple(fold_repeats([build(child) for child in children.get(name, ())], by_groups=by_groups)),
        )

    return build("")


def graft_texts(model: nn.Module) -> Mapping[str, list[str]]:
    """Return descriptions of the grafts, such as `se after`, by the name of their site."""
    texts: dict[str, list[str]] = {}
    for installed in list_grafts(model):
        graft = installed.graft
        texts.setdefault(graft.site, []).append(f"{graft.block['name']} {graft.side}")
    return texts


def _parent(name: str) -> str:
    """Return the name of the parent of a site: `backbone` for `backbone.conv` and for the item `backbone:0`."""
    return name.rpartition(":" if ":" in name.rpartition(".")[2] else ".")[0]


def fold_repeats(entries: Sequence[OutlineEntry], *, by_groups: bool = False) -> list[OutlineEntry]:
    """Return the entries with consecutively numbered ones of the same structure folded into one.

    With `by_groups`, they must also be in the same groups of sites.
    """
    runs: list[list[OutlineEntry]] = []
    for entry in entries:
        if runs and _repeats(runs[-1][-1], entry, by_groups=by_groups):
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return [_fold(run) if len(run) > 1 else run[0] for run in runs]


def _repeats(last: OutlineEntry, entry: OutlineEntry, *, by_groups: bool) -> bool:
    """Return whether an entry has the next number after `last` and the same structure."""
    previous, current = _NUMBERED.fullmatch(last.name), _NUMBERED.fullmatch(entry.name)
    if not previous or not current or previous[1] != current[1] or int(current[2]) != int(previous[2]) + 1:
        return False
    return _structure(last, last.name, by_groups=by_groups) == _structure(entry, entry.name, by_groups=by_groups)


def _structure(entry: OutlineEntry, root: str, *, by_groups: bool) -> tuple[Any, ...]:
    """Return a key that is equal for entries of the same structure; names in it are relative to `root`."""
    shape = entry.site and entry.site.output and entry.site.output.shape
    calls = entry.site and entry.site.calls
    groups = entry.groups if by_groups else ()
    below = tuple(_structure(child, root, by_groups=by_groups) for child in entry.children)
    return entry.name.removeprefix(root), entry.type, shape, calls, entry.parameters, groups, entry.grafts, below


def _fold(run: Sequence[OutlineEntry]) -> OutlineEntry:
    first, last = _NUMBERED.fullmatch(run[0].name), _NUMBERED.fullmatch(run[-1].name)
    assert first
    assert last
    return _merge(run, run[0].name, f"{first[1]}{{{first[2]}..{last[2]}}}")


def _merge(entries: Sequence[OutlineEntry], old: str, new: str) -> OutlineEntry:
    """Return one entry for several of the same structure, with the prefix `old` of its name replaced by `new`."""
    first = entries[0]
    children = [_merge(matching, old, new) for matching in zip(*(entry.children for entry in entries), strict=True)]
    return replace(
        first,
        name=new + first.name.removeprefix(old),
        names=tuple(name for entry in entries for name in entry.names),
        parameters=sum(entry.parameters for entry in entries),
        groups=tuple(dict.fromkeys(group for entry in entries for group in entry.groups)),
        children=tuple(children),
    )


def choose_opened(
    root: OutlineEntry, limit: int, depth: int | None = None, closed: Sequence[str] = ()
) -> frozenset[str]:
    """Return the names of the entries to expand: level by level, while at most `limit` rows are shown.

    Where a whole level does not fit, all modules of a class are expanded together, as far as they fit. `depth` expands
    that number of levels instead, whatever their size. Entries in `closed` are never expanded.
    """
    chosen, level, shown = {root.name}, list(root.children), len(_shown(root, depth))
    while level := [entry for entry in level if entry.name not in closed and _is_worth_opening(entry, depth)]:
        depth = None if depth is None else depth - 1
        if depth == 0:
            break
        for entries in _by_type(level, everything=depth is not None, room=limit - shown):
            rows = sum(len(_shown(entry, depth)) for entry in entries)
            if depth is not None or shown + rows <= limit:
                chosen |= {entry.name for entry in entries}
                shown += rows
        level = [child for entry in level if entry.name in chosen for child in entry.children]
    return frozenset(chosen)


def _is_worth_opening(entry: OutlineEntry, depth: int | None) -> bool:
    """Return whether an entry contains parameters, groups or grafts; with an explicit depth, anything at all."""
    shown = _shown(entry, depth)
    return any(depth is not None or child.parameters or child.groups or child.grafts for child in shown)


def _shown(entry: OutlineEntry, depth: int | None) -> list[OutlineEntry]:
    """Return the children to show; without an explicit depth, items of tuples only with groups or grafts."""
    return [
        child
        for child in entry.children
        if depth is not None or not (child.site and child.site.is_item) or child.groups or child.grafts
    ]


def _by_type(level: Sequence[OutlineEntry], *, everything: bool, room: int) -> list[list[OutlineEntry]]:
    """Return the entries of a level as one list if they fit, else a list for each class, by parameters, descending."""
    if everything or sum(len(_shown(entry, None)) for entry in level) <= room:
        return [list(level)]
    types: dict[str, list[OutlineEntry]] = {}
    for entry in level:
        types.setdefault(entry.type, []).append(entry)
    return sorted(types.values(), key=lambda entries: -sum(entry.parameters for entry in entries))


def outline_rows(
    root: OutlineEntry, opened: frozenset[str], depth: int | None = None, above: tuple[bool, ...] = ()
) -> Iterator[tuple[OutlineEntry, tuple[bool, ...]]]:
    """Yield the rows of an outline as a tree: each entry, with one flag per level for the lines of the tree.

    A flag is whether the entry, or its ancestor at that level, is the last child. `above` are the flags of the root.
    """
    shown = _shown(root, depth)
    for child in shown:
        flags = (*above, child is shown[-1])
        yield child, flags
        if child.name in opened:
            yield from outline_rows(child, opened, depth, flags)
