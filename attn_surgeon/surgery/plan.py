"""Plans: the grafts that an insertion will make, and the refused sites with their reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from html import escape
from typing import Any, Self

from attn_surgeon.errors import PlanError, counted, for_python, function
from attn_surgeon.surgery.rewrite.placement import Placement, Side
from attn_surgeon.surgery.sites.layouts import Feature
from attn_surgeon.surgery.sites.site import layout_text, shape_text
from attn_surgeon.tables import Table

GRAFT_COLUMNS = ("site", "with", "shape", "layout", "channels", "runs", "parameters", "how", "owner")


class UnfitError(Exception):
    """Report that a block cannot run at a site; the message is the reason."""


@dataclass(frozen=True)
class Graft:
    """One block at one site.

    Args:
        site: the name of the site.
        side: whether the block is before or after it.
        calls: how often the block runs in one forward pass.
        feature: the tensor that the block takes.
        placement: where the block is called.
        block: the block's specification as plain data; surgery only stores it.
        parameters: the number of parameters of the block.
        second: the second tensor of a block of two inputs.
        other: the site that the user named for the second tensor.
        layout: the layout that the user set.
        followers: the paths of the norms and activations that take the block's output.
        alternatives: the placements to try where the first changes the network's output.
    """

    site: str
    side: Side
    calls: int
    feature: Feature
    placement: Placement
    block: Mapping[str, Any]
    parameters: int
    second: Feature | None = None
    other: str = ""
    layout: str = ""
    followers: tuple[str, ...] = ()
    alternatives: tuple[Placement, ...] = field(default=(), compare=False, repr=False)

    @property
    def place(self) -> str:
        """Where the graft is, such as `after layer3`."""
        return f"{self.side} {self.site}"

    def moved(self, placement: Placement) -> Self:
        """Return the same graft at another placement."""
        return replace(self, placement=placement)

    def to_dict(self) -> dict[str, Any]:
        """Return the graft as plain data, without alternative placements."""
        data = asdict(replace(self, alternatives=()))
        del data["alternatives"]
        return data | {"placement": self.placement.to_dict()}


@dataclass(frozen=True)
class Refusal:
    """A site that was chosen but cannot take the block, and why."""

    site: str
    side: Side
    reason: str


@dataclass(frozen=True, repr=False)
class Plan:
    """The grafts that an insertion will make, the sites that it refuses, and notes for the user."""

    grafts: tuple[Graft, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """The table of the grafts and, if there are any, that of the refusals."""
        blocks = " and ".join(dict.fromkeys(graft.block["name"] for graft in self.grafts))
        count, total = counted(len(self.grafts), "graft"), sum(graft.parameters for graft in self.grafts)
        title = f"{count}{f' of {blocks}' if blocks else ''}, {total:,} parameters"
        grafts = Table(title, GRAFT_COLUMNS, tuple(map(_row, self.grafts)), ("channels", "runs", "parameters"))
        rows = tuple((f"{item.side} {item.site}", item.reason) for item in self.refusals)
        refusals = Table(f"{len(rows)} refused", ("site", "why"), rows)
        return (grafts.without_empty_columns(), *([refusals] if rows else []))

    def __repr__(self) -> str:
        return "\n\n".join([*map(str, self.tables), *map(for_python, self.notes)])

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(for_python(note))}</p>" for note in self.notes)
        return "".join(table.html() for table in self.tables) + notes

    def require(self, *, strict: bool) -> None:
        """Raise PlanError where nothing can be grafted or, if strict, where anything is refused."""
        if self.refusals and (strict or not self.grafts):
            lines = [f"{item.side} {item.site}: {item.reason}" for item in self.refusals]
            shown = "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else "")
            what = "some sites cannot take the block" if self.grafts else "no chosen site can take the block"
            sites = function("find_sites(network, example)", "inspect NETWORK")
            raise PlanError(
                what, shown, f"list the sites with {sites} and choose others, or other options of the block"
            )


def _row(graft: Graft) -> tuple[str, ...]:
    """Return the cells of a graft, one for each of `GRAFT_COLUMNS`."""
    owner = graft.placement.owner
    second = graft.other or (f"{owner}.{graft.placement.other}".removeprefix(".") if graft.second else "")
    return (
        graft.place,
        second,
        shape_text(graft.feature),
        layout_text(graft.feature),
        str(graft.feature.channels),
        str(graft.calls),
        f"{graft.parameters:,}",
        graft.placement.how,
        owner or "(the network)",
    )


def join_plans(plans: Iterable[Plan]) -> Plan:
    """Return the plans of consecutive insertions as one."""
    plans = list(plans)
    return Plan(
        tuple(graft for plan in plans for graft in plan.grafts),
        tuple(refusal for plan in plans for refusal in plan.refusals),
        tuple(dict.fromkeys(note for plan in plans for note in plan.notes)),
    )
