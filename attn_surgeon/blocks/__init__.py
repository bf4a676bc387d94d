"""The catalogue of attention blocks: a room for each kind, one family a file, one registry."""

from attn_surgeon.blocks import both, channel, fusion, self_attention, spatial
from attn_surgeon.blocks.base.build import build_alone, build_block
from attn_surgeon.blocks.base.card import Card, Option
from attn_surgeon.blocks.base.gate_report import closing_parameters, gate_maps, gates_of, is_identity, openness
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
    "closing_parameters",
    "fusion",
    "gate_maps",
    "gates_of",
    "get_card",
    "is_identity",
    "names",
    "openness",
    "register_block",
    "self_attention",
    "spatial",
]
