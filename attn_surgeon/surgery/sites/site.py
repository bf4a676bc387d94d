"""Site, a place in a network where a block can be inserted, and the table of all sites."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from attn_surgeon.surgery.rewrite.placement import Placement, Side
from attn_surgeon.surgery.sites.layouts import Feature
from attn_surgeon.tables import Table, short_count

COLUMNS = ("site", "type", "output", "layout", "runs", "params", "groups", "grafts")
NUMBERS = ("runs", "params")
_MOST_ROWS = 100


@dataclass(frozen=True)
class Site:
    """A place where a tensor flows: the output (and input) of one module or one function.

    Attributes:
        name: the dotted path of the module, or of the function within the module whose forward calls it. `NAME:KEY`
            is one of several tensors there: an item of what a module returns, or an input of a function.
        kind: `"module"` or `"function"`.
        type: the module's class, or the function's name.
        calls: how often it runs in one forward pass.
        input: the feature before it; None where no feature map flows.
        output: the feature after it; None where no feature map flows.
        after: the placements of a graft after it, the best first.
        before: the placements of a graft before it, the best first.
        groups: the groups that it belongs to.
        obstacle: why there is no placement.
        feeds: the norms and activations that take what flows after it.
        folds: whether it is such a norm or activation, which other tools fold into the layer before.
        parameters: the number of parameters of the module.
        grafts: the grafts there, such as `"se after"`.
        returned: the shapes of all tensors that it returns.
    """

    name: str
    kind: Literal["module", "function"]
    type: str
    calls: int
    input: Feature | None
    output: Feature | None
    after: tuple[Placement, ...] = ()
    before: tuple[Placement, ...] = ()
    groups: tuple[str, ...] = ()
    obstacle: str = ""
    feeds: tuple[str, ...] = ()
    folds: bool = False
    parameters: int = 0
    grafts: tuple[str, ...] = ()
    returned: tuple[tuple[int, ...], ...] = ()

    @property
    def is_item(self) -> bool:
        """Whether it is one of several tensors at a place."""
        return ":" in self.name

    def feature(self, side: Side) -> Feature | None:
        """Return the feature that flows after or before the site."""
        return self.output if side == "after" else self.input

    def followers(self, side: Side) -> tuple[str, ...]:
        """Return the norms and activations that take what flows after or before the site, by path."""
        if side == "after":
            return self.feeds
        return (self.name,) if self.folds else ()

    def placements(self, side: Side) -> tuple[Placement, ...]:
        """Return the placements of a graft after or before the site."""
        return self.after if side == "after" else self.before


class Sites(list[Site]):
    """The sites of a network, in the order of execution; shown as a table."""

    def __repr__(self) -> str:
        more = f"\n… and {len(self) - _MOST_ROWS} more" if len(self) > _MOST_ROWS else ""
        return f"{self._table()}{more}"

    def _repr_html_(self) -> str:
        return self._table().html()

    def _table(self) -> Table:
        return site_table(f"{len(self)} sites", [(site.name, site) for site in self[:_MOST_ROWS]])


def site_table(title: str, sites: Sequence[tuple[str, Site]]) -> Table:
    """Return the table of sites, each under a name, without the columns that are empty."""
    rows = tuple(
        site_row(name, site.type, site, site.parameters, site.groups, ", ".join(site.grafts)) for name, site in sites
    )
    return Table(title, COLUMNS, rows, NUMBERS).without_empty_columns()


def site_row(
    name: str, kind: str, site: Site | None, parameters: int, groups: Sequence[str], grafts: str
) -> tuple[str, ...]:
    """Return the cells of a row, one for each of `COLUMNS`; `site` is None where nothing was observed."""
    feature = (site.output or (site.input if site.is_item else None)) if site else None
    layout = layout_text(feature) if feature else ""
    shape = shape_text(feature) if feature else _returned_text(site.returned) if site else ""
    runs = str(site.calls) if site and site.calls > 1 else ""
    return name, kind, shape, layout, runs, short_count(parameters), " ".join(groups), grafts


def shape_text(feature: Feature) -> str:
    """Return the shape of a feature, such as `1×64×8×8`."""
    return "×".join(map(str, feature.shape))


def _returned_text(shapes: Sequence[tuple[int, ...]]) -> str:
    """Return the shape of the first of several tensors, and their number: `1×64×8×8, 3 tensors`."""
    first = "×".join(map(str, shapes[0])) if shapes else "–"
    return f"{first}, {len(shapes)} tensors" if len(shapes) > 1 else first


def layout_text(feature: Feature) -> str:
    """Return the layout of a feature, and for tokens their grid: `NLC 1+14×14` has one prefix token."""
    return feature.layout + (f" {feature.prefix}+{feature.grid[0]}×{feature.grid[1]}" if feature.grid else "")
