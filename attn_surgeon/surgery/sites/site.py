"""One place where a tensor flows in a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attn_surgeon.surgery.rewrite.placement import Placement, Side
from attn_surgeon.surgery.sites.layouts import Feature


@dataclass(frozen=True)
class Site:
    """A place where a tensor flows: the output (and input) of one module or one function.

    `NAME:KEY` is one of several tensors there: an item of what a module gives back, or an input of a function.
    `calls` counts how often it runs in one forward pass; `after` and `before` list the ways to operate there, the
    best first; `obstacle` says why there is none. `input` and `output` are None where no feature map flows. `groups`
    names those it belongs to. `feeds` names the norms and activations that what flows after the site goes into, `folds`
    says whether the site is one itself: other tools fold these into the layer before.
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

    @property
    def is_item(self) -> bool:
        """Say whether it is one of several tensors at a place."""
        return ":" in self.name

    def feature(self, side: Side) -> Feature | None:
        """Give what flows after or before the site."""
        return self.output if side == "after" else self.input

    def followers(self, side: Side) -> tuple[str, ...]:
        """Name the norms and activations that what flows after or before the site goes into."""
        if side == "after":
            return self.feeds
        return (self.name,) if self.folds else ()

    def placements(self, side: Side) -> tuple[Placement, ...]:
        """Give the ways to operate after or before the site."""
        return self.after if side == "after" else self.before
