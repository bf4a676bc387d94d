"""What an operation will do: the grafts, and the refusals with their reasons."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

from attn_surgeon.errors import PlanError
from attn_surgeon.surgery.rewrite.placement import Placement, Side
from attn_surgeon.surgery.sites.layouts import Feature


class UnfitError(Exception):
    """Report why a block cannot run at a site."""


@dataclass(frozen=True)
class Graft:
    """One block at one site.

    `calls` counts how often it runs in one forward pass, `block` tells what it is, in the words of whoever builds
    it. `second` is the second tensor of a block of two inputs, `other` the name it was asked for by, `layout` the one
    asked for. `followers` are the norms and activations that it feeds, by path. `alternatives` are the placements to
    try where the first does not keep the network's output.
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
        """Give the same graft at another placement."""
        return replace(self, placement=placement)

    def to_dict(self) -> dict[str, Any]:
        """Write the graft as plain data, with its one placement."""
        data = asdict(replace(self, alternatives=()))
        del data["alternatives"]
        return data | {"placement": self.placement.to_dict()}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Self:
        """Read a graft from plain data."""
        second = data.get("second")
        parts = {
            "feature": Feature.from_dict(data["feature"]),
            "second": None if second is None else Feature.from_dict(second),
            "placement": Placement.from_dict(data["placement"]),
            "followers": tuple(data.get("followers", ())),
        }
        return cls(**{**data, **parts})


@dataclass(frozen=True)
class Refusal:
    """A site that was chosen but cannot take the block, and why."""

    site: str
    side: Side
    reason: str


@dataclass(frozen=True)
class Plan:
    """The grafts an operation will make and what it refuses; nothing has changed yet."""

    grafts: tuple[Graft, ...]
    refusals: tuple[Refusal, ...]
    notes: tuple[str, ...] = ()

    def require(self, *, strict: bool) -> None:
        """Raise PlanError where nothing can be grafted or, if strict, where anything is refused."""
        if self.refusals and (strict or not self.grafts):
            lines = [f"{item.side} {item.site}: {item.reason}" for item in self.refusals]
            shown = "; ".join(lines[:5]) + (f"; and {len(lines) - 5} more" if len(lines) > 5 else "")
            what = "some sites cannot take the block" if self.grafts else "no chosen site can take the block"
            raise PlanError(
                what, shown, "choose other sites (attn-surgeon inspect NETWORK) or options (attn-surgeon blocks BLOCK)"
            )


def join_plans(plans: Iterable[Plan]) -> Plan:
    """Join the plans of operations that are made one after the other."""
    listed = list(plans)
    return Plan(
        tuple(graft for plan in listed for graft in plan.grafts),
        tuple(refusal for plan in listed for refusal in plan.refusals),
        tuple(dict.fromkeys(note for plan in listed for note in plan.notes)),
    )
