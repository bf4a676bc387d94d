"""Show sites as a flat table, or as a tree of the network that is collapsed to fit a screen."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from attn_surgeon.cli.output import rich_table

if TYPE_CHECKING:
    from attn_surgeon.draw.outline import OutlineEntry
    from attn_surgeon.surgery.sites.site import Site
    from attn_surgeon.tables import Table as PlainTable

ROWS = 40
_AROUND_NAME = re.compile(r"^(?:│  |   |├─ |└─ )+|  \+\d+$|^(?:after|before) ")


def tree_table(title: str, root: OutlineEntry, open_names: frozenset[str], depth: int | None) -> Table:
    """Build the table of a tree; entries in `open_names` are followed by their children, indented."""
    from attn_surgeon.draw.outline import outline_rows
    from attn_surgeon.surgery.sites.site import COLUMNS, NUMBERS, site_row
    from attn_surgeon.tables import Table as PlainTable

    cells = []
    for entry, lasts in outline_rows(root, open_names, depth):
        is_open = entry.name in open_names
        grafts = entry.grafts if is_open else entry.all_grafts
        shown = grafts if len(grafts) < 3 else (*grafts[:1], f"{len(grafts) - 1} more")
        name = _name(entry, lasts, is_open)
        cells.append(site_row(name, entry.type, entry.site, entry.parameters, entry.groups, ", ".join(shown)))
    return _coloured(PlainTable(title, COLUMNS, tuple(cells), NUMBERS).without_empty_columns())


def sites_table(title: str, sites: Sequence[tuple[str, Site]]) -> Table:
    """Build the table of chosen sites, each with its side, `after` or `before`, or an empty text for both."""
    from attn_surgeon.surgery.sites.site import site_table

    return _coloured(site_table(title, [(f"{side} {site.name}".strip(), site) for side, site in sites]))


def _coloured(plain: PlainTable) -> Table:
    styles: dict[str, Callable[[str], Text]] = {
        "site": _coloured_name,
        "groups": _coloured_groups,
        "grafts": partial(Text, style="bold magenta"),
    }
    coloured = rich_table(plain, styles)
    for column in coloured.columns:
        column.no_wrap = column.header in ("site", "type", "output", "params")
        column.overflow = "ellipsis" if column.header == "type" else "fold"
    return coloured


def _name(entry: OutlineEntry, lasts: Sequence[bool], is_open: bool) -> str:
    """Return an entry's name between the guides of the tree and its counts: `×3` repeats, `+12` collapsed entries."""
    guides = "".join("   " if last else "│  " for last in lasts[1:-1])
    branch = ("└─ " if lasts[-1] else "├─ ") if len(lasts) > 1 else ""
    count = f"  ×{entry.repeats}" if entry.repeats > 1 and entry.name.endswith("}") else ""
    inside = f"  +{len(entry.descendants)}" if entry.children and not is_open else ""
    return guides + branch + entry.name + count + inside


def _coloured_name(text: str) -> Text:
    name = Text(text)
    name.highlight_regex(_AROUND_NAME, "dim")
    name.highlight_regex(r"  ×\d+", "bold cyan")
    return name


def _coloured_groups(text: str) -> Text:
    from attn_surgeon.draw.group_colours import colour

    return Text(" ").join(Text(group, style=colour(group)) for group in text.split())
