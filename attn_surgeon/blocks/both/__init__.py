"""Blocks that weigh channels and positions."""

from attn_surgeon.blocks.both import bam, cbam

__all__ = ["bam", "cbam"]
