"""Where a graft is made: at a module's exit, at its entry, or on an edge of one module's own graph."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from attn_surgeon.surgery.rewrite.binding import Binding, Constant, Several

Side = Literal["after", "before"]
PlacementKind = Literal["exit", "entry", "edge"]


@dataclass(frozen=True)
class Placement:
    """One way to make a graft; everything needed to make it again on the same network without an example.

    `exit` and `entry` wrap the owner's call. `edge` rewrites the owner's own `method` after or before `node`,
    whose name is relative to the owner; `argument` counts the nodes that flow into that node. `item` names one of
    several tensors that come out of it. `other` is where a block of two inputs takes its second: the output of a node
    of the owner's graph, or with `:K` after its name, what flows into it as argument K.
    """

    kind: PlacementKind
    owner: str
    side: Side
    method: str = "forward"
    node: str = ""
    argument: int = 0
    item: str = ""
    other: str = ""
    binding: Binding = field(default_factory=dict, hash=False)

    @property
    def how(self) -> str:
        """How the graft is made: `fx` by rewriting a forward, or `wrapped`."""
        return "fx" if self.kind == "edge" else "wrapped"

    @property
    def key(self) -> str:
        """The name of the graft within its owner."""
        parts = [self.side, self.node, self.item, str(self.argument or "")]
        return re.sub(r"\W", "_", "_".join(part for part in parts if part))

    def to_dict(self) -> dict[str, Any]:
        """Return the placement as plain data."""
        return {
            "kind": self.kind,
            "owner": self.owner,
            "side": self.side,
            "method": self.method,
            "node": self.node,
            "argument": self.argument,
            "item": self.item,
            "other": self.other,
            "binding": {name: _plain(value) for name, value in self.binding.items()},
        }


def _plain(value: Constant) -> Any:
    return value.to_plain() if isinstance(value, Several) else value
