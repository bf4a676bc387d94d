"""Blocks that weigh channels."""

from attn_surgeon.blocks.channel import eca, ese, gc, gct, gct_gauss, ge, se

__all__ = ["eca", "ese", "gc", "gct", "gct_gauss", "ge", "se"]
