"""Blocks that weigh channels."""

from attn_surgeon.blocks.channel import eca, ese, fca, gc, gct, gct_gauss, ge, lct, se, sge, srm

__all__ = ["eca", "ese", "fca", "gc", "gct", "gct_gauss", "ge", "lct", "se", "sge", "srm"]
