"""Blocks that weigh channels and positions."""

from attn_surgeon.blocks.both import cbam

__all__ = ["cbam"]
