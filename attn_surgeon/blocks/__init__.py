"""The catalogue of attention blocks: a room for each kind, one family a file, one registry."""

from attn_surgeon.blocks import both, channel, fusion, self_attention, spatial
from attn_surgeon.blocks.base.build import build_alone, build_block
from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.own import adopt, register_block
from attn_surgeon.blocks.base.paired import Second
from attn_surgeon.blocks.base.registry import get_card, names
from attn_surgeon.blocks.base.spec import BlockSpec

__all__ = [
    "BlockSpec",
    "Card",
    "Option",
    "Second",
    "adopt",
    "both",
    "build_alone",
    "build_block",
    "channel",
    "fusion",
    "get_card",
    "names",
    "register_block",
    "self_attention",
    "spatial",
]
