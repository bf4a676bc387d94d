"""Blocks that weigh channels."""

from attn_surgeon.blocks.channel import eca, se

__all__ = ["eca", "se"]
