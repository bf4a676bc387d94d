"""The catalogue of attention blocks: one family a file, one registry."""

from attn_surgeon.blocks import cbam, coord, eca, gate, mdaf, se
from attn_surgeon.blocks.build import BlockSpec, build_block
from attn_surgeon.blocks.paired import Second
from attn_surgeon.blocks.registry import Card, Option, get_card, names

__all__ = [
    "BlockSpec",
    "Card",
    "Option",
    "Second",
    "build_block",
    "cbam",
    "coord",
    "eca",
    "gate",
    "get_card",
    "mdaf",
    "names",
    "se",
]
