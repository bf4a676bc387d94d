"""Blocks that weigh channels and positions."""

from attn_surgeon.blocks.both import cbam, hard, soft

__all__ = ["cbam", "hard", "soft"]
