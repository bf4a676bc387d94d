"""Blocks that take two maps of one shape."""

from attn_surgeon.blocks.fusion import gate, mdaf

__all__ = ["gate", "mdaf"]
