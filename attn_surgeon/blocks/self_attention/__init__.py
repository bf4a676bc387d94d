"""Blocks in which positions look at one another."""

from attn_surgeon.blocks.self_attention import halo, window

__all__ = ["halo", "window"]
