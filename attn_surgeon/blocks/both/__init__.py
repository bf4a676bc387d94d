"""Blocks that weigh channels and positions."""

from attn_surgeon.blocks.both import cbam, danet

__all__ = ["cbam", "danet"]
