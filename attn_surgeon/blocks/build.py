"""Make the block that a specification names, fit for a site's channels and layout."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from torch import nn

from attn_surgeon.blocks.card import Card
from attn_surgeon.blocks.gating import INITS
from attn_surgeon.blocks.layout import Flat, Permuted, Tokens
from attn_surgeon.blocks.paired import Doubled, Paired, Second
from attn_surgeon.blocks.registry import get_card, get_class
from attn_surgeon.errors import BlockError, nearest


@dataclass(frozen=True)
class BlockSpec:
    """A block by name, with its options and how it starts: `identity`, or `paper` for the published formula."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    init: str = "identity"

    @classmethod
    def read(cls, name: str, options: Mapping[str, Any], init: str = "identity") -> Self:
        """Check name, options and start; raise BlockError where one is wrong."""
        if not isinstance(name, str):
            raise BlockError(f"a block is named by text, not by a {type(name).__name__}", "", "such as block='cbam'")
        if init not in INITS:
            hint = nearest(init, INITS) or f"it is one of {', '.join(INITS)}"
            raise BlockError(f"no start is called '{init}'", f"block '{name}'", hint)
        return cls(name, get_card(name).read_options(options), init)

    def to_dict(self) -> dict[str, Any]:
        """Write the specification as plain data."""
        return {"name": self.name, "options": dict(self.options), "init": self.init}


def build_block(
    spec: BlockSpec,
    channels: int,
    *,
    layout: str = "NCHW",
    prefix: int = 0,
    grid: tuple[int, int] | None = None,
    positions: int = 0,
    other: Second | None = None,
) -> nn.Module:
    """Build a block for features of a layout; raise ValueError with the reason where it cannot run there.

    `positions` is the number of places in the example, 0 where unknown; `prefix` and `grid` are for tokens. With
    `other`, a block of two inputs takes a second tensor laid out so; without, it sees the same map twice.
    """
    card = get_card(spec.name)
    mapped = card.reach == "map" or other is not None
    _require_positions(card, layout, positions)
    if mapped:
        _require_map(spec.name, layout, grid)
    if other is not None:
        _require_second(card, other)
    block = get_class(spec.name)(channels, **spec.options, init=spec.init)
    if card.inputs == 2:
        block = Doubled(block) if other is None else Paired(block, channels, other)
    if layout == "NCHW":
        return block
    if layout == "NLC":
        return Tokens(block, prefix, grid if mapped else None)
    if layout == "NHWC":
        return Permuted(block)
    return Permuted(Flat(block)) if layout == "NDHWC" else Flat(block)


def _require_positions(card: Card, layout: str, positions: int) -> None:
    if card.reach != "channels" and (positions == 1 or layout == "NC"):
        raise ValueError(f"{card.name} tells positions apart, and there is only one")


def _require_map(name: str, layout: str, grid: tuple[int, int] | None) -> None:
    if layout == "NLC" and grid is None:
        raise ValueError(f"{name} needs a map, and its tokens form none of whole patches")
    if layout not in ("NCHW", "NHWC", "NLC"):
        raise ValueError(f"{name} runs on maps (N, C, H, W), not on {layout}")


def _require_second(card: Card, other: Second) -> None:
    if card.inputs == 1:
        raise ValueError(f"{card.name} takes one input")
    if other.layout == "NLC" and other.grid is None:
        raise ValueError(f"{card.name} needs a map as its second input, and those tokens form none of whole patches")
    if other.layout not in ("NCHW", "NHWC", "NLC"):
        raise ValueError(f"{card.name} takes a map (N, C, H, W) as its second input, not {other.layout}")
