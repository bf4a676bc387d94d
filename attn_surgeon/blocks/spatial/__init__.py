"""Blocks that weigh positions."""

from attn_surgeon.blocks.spatial import coord, coord_simple, ela, lka, lsk, strip, triplet

__all__ = ["coord", "coord_simple", "ela", "lka", "lsk", "strip", "triplet"]
