"""Blocks that take two maps of one shape."""

from attn_surgeon.blocks.fusion import aff, cross, gate, mdaf, sk

__all__ = ["aff", "cross", "gate", "mdaf", "sk"]
