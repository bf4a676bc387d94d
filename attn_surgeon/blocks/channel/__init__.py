"""Blocks that weigh channels."""

from attn_surgeon.blocks.channel import eca, ese, se

__all__ = ["eca", "ese", "se"]
