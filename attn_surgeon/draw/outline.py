"""The outline of a network: modules and functions in the order of execution, repeated modules folded to one entry."""

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
class OutlineEntry:
    """A module, a function, or successive modules of the same structure.

    `names` are all the names it stands for; with several of them `name` is written as a selector: `layer3.{1..5}`.
    `parameters` counts those of all of them, with their children's. `site` is that of the first; None where no call
    was seen.
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
        """Return how many modules are folded into this entry."""
        return len(self.names)

    def walk(self) -> Iterator[OutlineEntry]:
        """Return the entry and all its descendants, in preorder."""
        yield self
        for child in self.children:
            yield from child.walk()

    @property
    def descendants(self) -> tuple[OutlineEntry, ...]:
        """Return all entries below this one."""
        return tuple(self.walk())[1:]

    @property
    def all_grafts(self) -> tuple[str, ...]:
        """Return the texts of the grafts at the entry itself, then of those below it with the names of their sites."""
        below = (f"{text} {entry.name}" for entry in self.descendants for text in entry.grafts)
        return (*self.grafts, *below)


def build_outline(survey: Survey, *, by_groups: bool = False) -> OutlineEntry:
    """Build the outline of a surveyed network; the name of the root is empty.

    With `by_groups`, only entries that belong to the same groups are folded.
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
    """Return a description of each graft, block and side, by the name of its site."""
    texts: dict[str, list[str]] = {}
    for made in list_grafts(model):
        texts.setdefault(made.graft.site, []).append(f"{made.graft.block['name']} {made.graft.side}")
    return texts


def _parent(name: str) -> str:
    """Return the parent of a site; that of an item of a tuple, as in `backbone:0`, is what gave the tuple."""
    return name.rpartition(":" if ":" in name.rpartition(".")[2] else ".")[0]


def fold_repeats(entries: Sequence[OutlineEntry], *, by_groups: bool = False) -> list[OutlineEntry]:
    """Return the entries with successive ones of the same structure, numbered one after another, folded to one.

    With `by_groups`, folded entries also belong to the same groups.
    """
    runs: list[list[OutlineEntry]] = []
    for entry in entries:
        if runs and _repeats(runs[-1][-1], entry, by_groups=by_groups):
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return [_fold(run) if len(run) > 1 else run[0] for run in runs]


def _repeats(last: OutlineEntry, entry: OutlineEntry, *, by_groups: bool) -> bool:
    """Return whether an entry has the number after the last one's and the same structure."""
    one, two = _NUMBERED.fullmatch(last.name), _NUMBERED.fullmatch(entry.name)
    if not one or not two or one[1] != two[1] or int(two[2]) != int(one[2]) + 1:
        return False
    return _structure(last, last.name, by_groups=by_groups) == _structure(entry, entry.name, by_groups=by_groups)


def _structure(entry: OutlineEntry, root: str, *, by_groups: bool) -> tuple[Any, ...]:
    """Return what entries of the same structure share; names count from `root`."""
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
    """Return one entry for several of the same structure; in its name the prefix `old` is replaced by `new`."""
    first = entries[0]
    children = [_merge(alike, old, new) for alike in zip(*(entry.children for entry in entries), strict=True)]
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
    """Return the names of the entries to open: level by level, as long as no more than `limit` rows are shown.

    Where a whole level is too much, those classes of modules are opened that fit as a whole. `depth` opens so many
    levels, whatever their size; entries in `closed` are never opened.
    """
    chosen, level, shown = {root.name}, list(root.children), len(_shown(root, depth))
    while level := [entry for entry in level if entry.name not in closed and _is_worth_opening(entry, depth)]:
        depth = None if depth is None else depth - 1
        if depth == 0:
            break
        for alike in _by_type(level, everything=depth is not None, room=limit - shown):
            more = sum(len(_shown(entry, depth)) for entry in alike)
            if depth is not None or shown + more <= limit:
                chosen |= {entry.name for entry in alike}
                shown += more
        level = [child for entry in level if entry.name in chosen for child in entry.children]
    return frozenset(chosen)


def _is_worth_opening(entry: OutlineEntry, depth: int | None) -> bool:
    """Return whether there is something to see below; the functions that make up a LayerNorm are not, unless asked."""
    shown = _shown(entry, depth)
    return any(depth is not None or child.parameters or child.groups or child.grafts for child in shown)


def _shown(entry: OutlineEntry, depth: int | None) -> list[OutlineEntry]:
    """Return the children shown: the items of a tuple only where they matter, unless a depth is asked for."""
    return [
        child
        for child in entry.children
        if depth is not None or not (child.site and child.site.is_item) or child.groups or child.grafts
    ]


def _by_type(level: Sequence[OutlineEntry], *, everything: bool, room: int) -> list[list[OutlineEntry]]:
    """Return a level as one where it fits, and by the classes of modules, largest first, where it does not."""
    if everything or sum(len(_shown(entry, None)) for entry in level) <= room:
        return [list(level)]
    types: dict[str, list[OutlineEntry]] = {}
    for entry in level:
        types.setdefault(entry.type, []).append(entry)
    return sorted(types.values(), key=lambda entries: -sum(entry.parameters for entry in entries))


def outline_rows(
    root: OutlineEntry, opened: frozenset[str], depth: int | None = None, above: tuple[bool, ...] = ()
) -> Iterator[tuple[OutlineEntry, tuple[bool, ...]]]:
    """Return the entries shown, each with one flag per level: whether it, or its ancestor there, is the last one.

    `above` are the flags of the root.
    """
    shown = _shown(root, depth)
    for child in shown:
        flags = (*above, child is shown[-1])
        yield child, flags
        if child.name in opened:
            yield from outline_rows(child, opened, depth, flags)
