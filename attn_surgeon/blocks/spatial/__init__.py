"""Blocks that weigh positions."""

from attn_surgeon.blocks.spatial import coord

__all__ = ["coord"]
