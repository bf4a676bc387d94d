"""Placements of grafts: at the entry or exit of a module's call, or on an edge of the graph of one of its methods."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Literal

from attn_surgeon.surgery.rewrite.binding import Binding, Constant, ContainerSpec

Side = Literal["after", "before"]
PlacementKind = Literal["exit", "entry", "edge"]


@dataclass(frozen=True)
class Placement:
    """Where and how a graft is made; it suffices to make the graft again on the same network without an example.

    Args:
        kind: `entry` and `exit` wrap the owner's call; `edge` rewrites the owner's `method`.
        owner: the path of the module that owns the graft.
        side: whether the graft is before or after the node or the owner.
        method: the rewritten method.
        node: the name of the node in the graph of the method, relative to the owner.
        argument: before a node, the index of the input among its `node_inputs`.
        item: the key of the tensor, where the node or owner returns several.
        other: where a block of two inputs gets its second: the name of a node in the same graph for its output, or
            `name:K` for input K of that node.
        binding: the values of the method's parameters that were not tensors.
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
        """How the graft is made, as tables show it: `fx` by rewriting a method, or `wrapped`."""
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
    return value.to_plain() if isinstance(value, ContainerSpec) else value
