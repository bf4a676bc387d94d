"""The catalogue of attention blocks: one family a file, one registry."""

from attn_surgeon.blocks import cbam, eca, se
from attn_surgeon.blocks.build import BlockSpec, build_block
from attn_surgeon.blocks.registry import Card, Option, get_card, names

__all__ = ["BlockSpec", "Card", "Option", "build_block", "cbam", "eca", "get_card", "names", "se"]
