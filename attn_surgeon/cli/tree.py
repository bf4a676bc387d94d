"""The outline of a network as a table with guides, folded to what a screen holds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table
from rich.text import Text

from attn_surgeon.cli.output import shape_cells

if TYPE_CHECKING:
    from attn_surgeon.artefact.opening import LoadedNetwork
    from attn_surgeon.draw.outline import Part
    from attn_surgeon.surgery.sites.survey import Site

ROWS = 40


def tree_table(title: str, root: Part, open_names: frozenset[str], depth: int | None) -> Table:
    """Show the parts that are open, indented, with what each holds."""
    from attn_surgeon.draw.outline import rows

    entries: list[Entry] = []
    for part, lasts in rows(root, open_names, depth):
        is_open = part.name in open_names
        grafts = part.grafts if is_open else part.all_grafts
        marks = grafts if len(grafts) < 3 else (*grafts[:1], f"{len(grafts) - 1} more")
        entries.append((_name(part, lasts, is_open), part.type, part.site, part.parameters, part.groups, marks))
    return _table(title, entries)


def site_table(title: str, sites: Sequence[tuple[str, Site]], loaded: LoadedNetwork) -> Table:
    """Show chosen sites, one under the other, under their plain names; the text before each is the side meant."""
    from attn_surgeon.draw.outline import graft_texts
    from attn_surgeon.measure.cost import parameters

    sizes = {name: parameters(module) for name, module in loaded.model.named_modules(remove_duplicate=False)}
    grafts = graft_texts(loaded.model)
    entries: list[Entry] = []
    for side, site in sites:
        name = Text(f"{side} " if side else "", style="dim").append(site.name, style="not dim")
        entries.append((name, site.type, site, sizes.get(site.name, 0), site.groups, tuple(grafts.get(site.name, ()))))
    return _table(title, entries)


Entry = tuple[Text, str, "Site | None", int, tuple[str, ...], tuple[str, ...]]


def _name(part: Part, lasts: Sequence[bool], is_open: bool) -> Text:
    guides = "".join("   " if last else "│  " for last in lasts[1:-1])
    turn = ("└─ " if lasts[-1] else "├─ ") if len(lasts) > 1 else ""
    name = Text(guides + turn, style="dim").append(part.name, style="not dim")
    if part.count > 1 and part.name.endswith("}"):
        name.append(f"  ×{part.count}", style="not dim bold cyan")
    if part.children and not is_open:
        name.append(f"  +{part.inside}", style="dim")
    return name


def _table(title: str, entries: Sequence[Entry]) -> Table:
    """Make the table; columns in which no row has anything are left out."""
    from attn_surgeon.draw.labels import short

    columns = {
        "site": [name for name, *_ in entries],
        "type": [Text(kind, no_wrap=True, overflow="ellipsis") for _, kind, *_ in entries],
        "output": [Text(_shape(site)[0]) for _, _, site, *_ in entries],
        "layout": [Text(_shape(site)[1]) for _, _, site, *_ in entries],
        "runs": [Text(str(site.calls) if site and site.calls > 1 else "") for _, _, site, *_ in entries],
        "params": [Text(short(parameters)) for _, _, _, parameters, *_ in entries],
        "groups": [_groups(groups) for *_, groups, _ in entries],
        "grafts": [Text(", ".join(grafts), style="bold magenta") for *_, grafts in entries],
    }
    made = Table(
        title=escape(title), title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim"
    )
    filled = {name: cells for name, cells in columns.items() if name == "site" or any(cell.plain for cell in cells)}
    for name in filled:
        right = name in ("runs", "params")
        made.add_column(
            name, justify="right" if right else "left", no_wrap=name in ("site", "output", "params"), overflow="fold"
        )
    for row in zip(*filled.values(), strict=True):
        made.add_row(*row)
    return made


def _shape(site: Site | None) -> list[str]:
    feature = (site.output or site.input) if site else None
    return shape_cells(feature) if feature else ["", ""]


def _groups(groups: Sequence[str]) -> Text:
    from attn_surgeon.draw.group_colours import colour, word

    return Text(" ").join(Text(word(group), style=colour(group)) for group in groups)
