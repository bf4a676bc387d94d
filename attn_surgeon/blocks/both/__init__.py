"""Blocks that weigh channels and positions."""

from attn_surgeon.blocks.both import bam, cbam, danet

__all__ = ["bam", "cbam", "danet"]
